#include "kernels/cuda/bench/quantize_bench.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "core/json.h"
#include "core/thread_pool.h"
#include "formats/quantize/activations.h"
#include "jit/cubin_cache.h"

namespace sabrewing::kernels::cuda {

namespace {

using formats::ElementType;
using Granularity = formats::ActivationFormat::Granularity;

constexpr std::int64_t kDistinctRows = 512;  // longer inputs repeat

std::vector<std::uint16_t> random_rows(ElementType type, std::int64_t rows, std::int64_t k) {
  std::mt19937 random(29);
  std::normal_distribution<double> normal;
  std::vector<std::uint16_t> codes(static_cast<std::size_t>(rows * k));
  const int range = type == formats::kBF16 ? 120 : 20;
  for (std::int64_t r = 0; r < rows; ++r) {
    const double unit =
        r % 8 == 3 ? std::ldexp(1.0, static_cast<int>(random() % 2u * 2u) * range - range) : 1;
    for (std::int64_t c = 0; c < k; ++c) {
      double value = unit * normal(random);
      if (r % 16 == 5 || (r % 16 == 6 && c % 256 < 128)) value = c % 3 == 0 ? -0.0 : 0.0;
      if (r % 64 == 7 && c == k - 1) value = NAN;
      if (r % 64 == 8 && c == k / 2) value = -INFINITY;
      codes[static_cast<std::size_t>(r * k + c)] = static_cast<std::uint16_t>(formats::encode(type, value));
    }
  }
  return codes;
}

ElementType input_type(DType dtype) { return dtype == DType::kBF16 ? formats::kBF16 : formats::kFP16; }

}  // namespace

QuantizeCell::QuantizeCell(BenchDevice& bench, const QuantizeDesc& desc, std::int64_t max_m)
    : bench_(bench),
      quantizer_(bench.device(), bench.compiler(), desc),
      input_(random_rows(input_type(desc.input), std::min(max_m, kDistinctRows), desc.k)) {
  x_ = jit::DeviceBuffer(bench.device(), static_cast<std::size_t>(max_m * desc.k) * 2);
  for (std::int64_t row = 0; row < max_m; row += kDistinctRows)
    jit::copy_to_device(
        x_.as<std::byte>() + row * desc.k * 2,
        std::as_bytes(std::span(input_))
            .first(static_cast<std::size_t>(std::min(max_m - row, kDistinctRows) * desc.k) * 2),
        bench.stream());
  codes_ = jit::DeviceBuffer(bench.device(), static_cast<std::size_t>(max_m * desc.k) + 2 * kGuardBytes);
  scales_ = jit::DeviceBuffer(bench.device(), quantizer_.scale_bytes(max_m) + 2 * kGuardBytes);
  jit::synchronize(bench.stream());
}

QuantizeArgs QuantizeCell::args(std::int64_t m) const {
  const QuantizeDesc& desc = quantizer_.desc();
  return {{x_.data(), desc.input, m, desc.k, desc.k},
          {codes_.as<std::byte>() + kGuardBytes, quantizer_.codes_dtype(), m, desc.k, desc.k},
          scales_.as<std::byte>() + kGuardBytes};
}

std::string QuantizeCell::check(std::int64_t m) {
  const QuantizeDesc& desc = quantizer_.desc();
  const auto code_bytes = static_cast<std::size_t>(m * desc.k);
  std::vector<std::byte> codes[2], scales[2];
  for (const std::size_t run : {0u, 1u}) {
    codes[run].resize(code_bytes + 2 * kGuardBytes);
    scales[run].resize(quantizer_.scale_bytes(m) + 2 * kGuardBytes);
    jit::set_bytes(codes_.data(), 0x5a, codes[run].size(), bench_.stream());
    jit::set_bytes(scales_.data(), 0x5a, scales[run].size(), bench_.stream());
    quantizer_.enqueue(args(m), bench_.stream(), run == 1);
    jit::copy_to_host(codes[run], codes_.data(), bench_.stream());
    jit::copy_to_host(scales[run], scales_.data(), bench_.stream());
    jit::synchronize(bench_.stream());
  }
  if (codes[0] != codes[1] || scales[0] != scales[1])
    return fmt::format("K={} M={}: two runs differ", desc.k, m);
  for (const auto* bytes : {codes, scales})
    for (std::size_t i = 0; i < kGuardBytes; ++i)
      if (bytes->at(i) != std::byte{0x5a} || bytes->at(bytes->size() - 1 - i) != std::byte{0x5a})
        return fmt::format("K={} M={}: a guard byte of {} was written", desc.k, m,
                           bytes == codes ? "the codes" : "the scales");

  const bool grouped = desc.format.granularity == Granularity::kGroup;
  const std::int64_t group = grouped ? desc.format.group : desc.k;
  const std::int64_t groups = (desc.k + group - 1) / group;
  const ElementType element = desc.format.element;
  const float unit = element == formats::kE2M1 ? 0.5f : 1.0f;
  const auto scale_bytes = static_cast<std::size_t>(desc.format.scale->bits / 8);
  const std::int64_t rows = std::min(m, kDistinctRows);
  std::vector<std::string> differences(static_cast<std::size_t>(rows));
  ThreadPool pool(available_processors());
  pool.parallel_for(rows, [&](std::int64_t r, int) {
    std::vector<float> row(static_cast<std::size_t>(desc.k));
    for (std::size_t c = 0; c < row.size(); ++c)
      row[c] = formats::decode(input_type(desc.input), input_[static_cast<std::size_t>(r) * row.size() + c]);
    std::vector<std::uint8_t> expected(row.size());
    std::vector<float> expected_scales(static_cast<std::size_t>(groups));
    formats::quantize_row(desc.format, row, expected, expected_scales);
    std::string& difference = differences[static_cast<std::size_t>(r)];
    for (std::int64_t g = 0; g < groups && difference.empty(); ++g) {
      std::uint32_t code = 0;
      std::memcpy(&code, scales[0].data() + kGuardBytes + static_cast<std::size_t>(g * m + r) * scale_bytes,
                  scale_bytes);
      const float got = formats::decode(*desc.format.scale, code),
                  want = expected_scales[static_cast<std::size_t>(g)];
      if (got != want * unit && !(std::isnan(got) && std::isnan(want)))
        difference = fmt::format("K={} M={} row {} group {}: scale {}, {} expected", desc.k, m, r, g, got,
                                 want * unit);
    }
    for (std::size_t c = 0; c < row.size() && difference.empty(); ++c) {
      std::uint32_t want = expected[c];
      if (element.bits == 4)
        want = static_cast<std::uint8_t>(static_cast<int>(formats::decode(element, want) / unit));
      const auto got = std::to_integer<std::uint32_t>(
          codes[0][kGuardBytes + static_cast<std::size_t>(r) * row.size() + c]);
      if (got != want)
        difference = fmt::format("K={} M={} row {} column {}: code {}, {} expected for {} / {}", desc.k, m, r,
                                 c, got, want, row[c], expected_scales[c / static_cast<std::size_t>(group)]);
    }
  });
  for (const std::string& difference : differences)
    if (!difference.empty()) return difference;
  return {};
}

double QuantizeCell::floor_us(std::int64_t m) const {
  const auto numbers = static_cast<double>(m * quantizer_.desc().k);
  return (3 * numbers + static_cast<double>(quantizer_.scale_bytes(m))) / kMemoryBytesPerUs;
}

QuantizeBenchResult run_quantize_bench(const QuantizeBenchOptions& options) {
  SABREWING_CHECK(!options.formats.empty() && !options.k.empty() && !options.m.empty(), kInvalidArgument,
                  "[bench] no activation format, no K or no M");
  for (const std::string& name : options.formats) activation_by_name(name);
  BenchDevice bench(jit::Device::open(options.ordinal), std::make_shared<jit::Compiler>(jit::CompilerOptions{
                                                            std::nullopt, jit::CubinCache::open_default()}));
  QuantizeBenchResult result;
  result.device = bench.device()->info().name;
  const std::int64_t max_m = *std::max_element(options.m.begin(), options.m.end());
  const std::size_t steps = options.formats.size() * options.k.size() * options.m.size();
  std::size_t step = 0;
  for (const std::string& name : options.formats)
    for (const std::int64_t k : options.k) {
      const QuantizeDesc desc{activation_by_name(name), options.input, k};
      if (const Feasibility feasible =
              ActivationQuantizer::can_implement(desc, bench.device()->info().architecture);
          !feasible) {
        result.refusals.push_back(fmt::format("{} K={}: {}", name, k, feasible.reason));
        step += options.m.size();
        continue;
      }
      QuantizeCell cell(bench, desc, max_m);
      for (const std::int64_t m : options.m) {
        if (options.progress && !options.progress(step, steps, fmt::format("{} K={} M={}", name, k, m))) {
          result.complete = false;
          return result;
        }
        ++step;
        QuantizeBenchRow row{name, k, m, 0, 0, cell.floor_us(m), cell.check(m)};
        const auto call = [&](bool overlap) {
          return [&, overlap](int) { cell.quantizer().enqueue(cell.args(m), bench.stream(), overlap); };
        };
        const double estimate = std::max(2.0, row.floor_us);
        row.us_serial = bench.time(call(false), estimate, Timing::kSteady);
        row.us = bench.time(call(true), estimate, Timing::kSteady);
        result.rows.push_back(std::move(row));
      }
    }
  return result;
}

std::string quantize_bench_json(const QuantizeBenchResult& result) {
  OrderedJson rows = OrderedJson::array();
  for (const QuantizeBenchRow& row : result.rows)
    rows.push_back({{"k", row.k},
                    {"m", row.m},
                    {"activations", row.format},
                    {"impl", "sabrewing"},
                    {"us", row.us},
                    {"us_serial", row.us_serial},
                    {"floor_us", row.floor_us},
                    {"difference", row.difference}});
  const OrderedJson root = {{"machine", {{"device", result.device}}},
                            {"complete", result.complete},
                            {"refused", result.refusals},
                            {"rows", std::move(rows)}};
  return root.dump(1);
}

}  // namespace sabrewing::kernels::cuda
