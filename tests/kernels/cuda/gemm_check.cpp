// Runs the covering set of the CUDA GEMM on the device of this machine: every kernel against float64 sums of
// the packed weights and quantized activations, twice and bitwise equal, between guard bytes; then times.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <thread>

#include "core/thread_pool.h"
#include "formats/numeric/element_type.h"
#include "jit/cubin_cache.h"
#include "kernels/cuda/bench/gemm_cell.h"
#include "kernels/cuda/bench/random_activations.h"
#include "kernels/cuda/gemm/gemm_kernel.h"
#include "kernels/cuda/gemm/planner.h"

namespace sabrewing::kernels::cuda {
namespace {

using formats::ActivationFormat;
using formats::ElementType;

constexpr std::size_t kGuardBytes = 4096;
constexpr std::size_t kRotatedBytes = 256u << 20;
constexpr std::int64_t kBurstFrom = 512;
constexpr std::size_t kJobsAtOnce = 9;  // their kernels are compiled together

struct Options {
  std::vector<std::string> formats;
  std::vector<std::string> shapes{"192x2880", "33x384"};
  std::vector<std::int64_t> m{1, 7, 17, 64, 129, 257};
  std::size_t per_family = 2;
  double deadline_s = 300;
  bool float_output = false;
  bool spread = false;
  bool race_checkable = false;
  bool time = false;
  int promote = GemmProblem{}.promote;
  std::string out;
};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Scales over 20 binades: inside the even rows, between the odd ones.
void spread_exponents(RandomWeight& weight) {
  std::mt19937 random(23);
  for (std::int64_t row = 0; row < weight.n; ++row)
    for (std::int64_t i = 0; i < weight.scale_row_bytes; ++i)
      weight.scales[static_cast<std::size_t>(row * weight.scale_row_bytes + i)] =
          static_cast<std::byte>(107 + (row % 2 == 0 ? random() % 21 : static_cast<unsigned>(row * 7 % 21)));
}

/// Where results leave the reference: enough to find the reason without the machine.
std::string describe_differences(const std::vector<std::byte>& got, std::size_t first_byte,
                                 const std::vector<double>& expected, std::int64_t m, std::int64_t n,
                                 DType output) {
  const ElementType type = output == DType::kF32 ? formats::kFP32 : formats::kBF16;
  const auto at = [&](std::int64_t t, std::int64_t r) {
    std::uint32_t code = 0;
    std::memcpy(&code, got.data() + first_byte + static_cast<std::size_t>(t * n + r) * size_of(output),
                size_of(output));
    return static_cast<double>(formats::decode(type, code));
  };
  std::int64_t wrong = 0, untouched = 0, first_t = -1, first_r = -1;
  std::vector<bool> tokens(static_cast<std::size_t>(m)), features(static_cast<std::size_t>(n));
  std::vector<double> ratios;
  for (std::int64_t t = 0; t < m; ++t) {
    double norm = 0;
    for (std::int64_t r = 0; r < n; ++r) norm += std::pow(expected[static_cast<std::size_t>(t * n + r)], 2);
    const double rms = std::sqrt(norm / static_cast<double>(n));
    for (std::int64_t r = 0; r < n; ++r) {
      const double want = expected[static_cast<std::size_t>(t * n + r)], value = at(t, r);
      if (std::abs(value - want) <= 0.02 * rms + 0.01 * std::abs(want)) continue;
      if (wrong++ == 0) first_t = t, first_r = r;
      untouched += std::isnan(value);
      tokens[static_cast<std::size_t>(t)] = features[static_cast<std::size_t>(r)] = true;
      if (std::abs(want) > 0.5 * rms) ratios.push_back(value / want);
    }
  }
  if (wrong == 0) return "no single number is far off";
  std::string text = fmt::format(
      "{} of {} wrong ({} NaN) in {} of {} tokens and {} of {} features; first m={} n={}: {} "
      "for {}; next:",
      wrong, m * n, untouched, std::count(tokens.begin(), tokens.end(), true), m,
      std::count(features.begin(), features.end(), true), n, first_t, first_r, at(first_t, first_r),
      expected[static_cast<std::size_t>(first_t * n + first_r)]);
  for (std::int64_t r = first_r + 1; r < std::min(n, first_r + 6); ++r)
    text +=
        fmt::format(" {:.4g}/{:.4g}", at(first_t, r), expected[static_cast<std::size_t>(first_t * n + r)]);
  if (!ratios.empty()) {
    std::nth_element(ratios.begin(), ratios.begin() + static_cast<std::ptrdiff_t>(ratios.size() / 2),
                     ratios.end());
    text += fmt::format("; median got/expected {:.4g}", ratios[ratios.size() / 2]);
  }
  return text;
}

class Check {
 public:
  explicit Check(const Options& options)
      : options_(options),
        device_(jit::Device::open()),
        stream_(device_),
        compiler_({std::nullopt, jit::CubinCache::open_default()}),
        model_(DeviceModel::of(device_->info())),
        pool_(available_processors()) {}

  int run() {
    const double begin = seconds();
    const std::vector<Job> jobs = this->jobs();
    double compiling = 0;
    for (std::size_t first = 0; first < jobs.size(); first += kJobsAtOnce) {
      const std::span<const Job> some =
          std::span(jobs).subspan(first, std::min(kJobsAtOnce, jobs.size() - first));
      if (seconds() - begin > options_.deadline_s) {
        fmt::print("  FAIL deadline: {} {}x{} and the {} pairs behind it not reached\n", some[0].name,
                   some[0].n, some[0].k, jobs.size() - first - 1);
        ++failures_;
        break;
      }
      const double before = seconds();
      compile(some);
      compiling += seconds() - before;
      for (const Job& job : some) check(job);
    }
    fmt::print("{} kernels compiled on {} processors in {:.0f} s\n", compiler_.counters().compiled,
               available_processors(), compiling);
    fmt::print(
        "{} cells, {} kernels, {} failures, worst error {:.2e}, worst p99.9 {:.2e}, worst output row {:.2e}, "
        "{:.0f} "
        "s\n",
        cells_, kernels_, failures_, worst_, worst_p999_, worst_row_, seconds() - begin);
    if (!options_.out.empty()) std::ofstream(options_.out) << rows_.dump(1) << "\n";
    return failures_ == 0 && cells_ > 0 ? 0 : 1;
  }

 private:
  jit::DeviceBuffer upload(std::span<const std::byte> bytes) {
    jit::DeviceBuffer buffer(device_, std::max<std::size_t>(bytes.size(), 16));
    if (!bytes.empty()) jit::copy_to_device(buffer.data(), bytes, stream_);
    stream_.synchronize();
    return buffer;
  }

  /// A pair of formats on one shape.
  struct Job {
    CoveredPair pair;
    std::string name;
    std::int64_t n, k;
  };

  std::vector<Job> jobs() const {
    std::vector<Job> list;
    for (const std::string& shape : options_.shapes)
      for (const CoveredPair& pair : covering_set()) {
        const std::string name = pair.format + " x " + pair.activation;
        const auto asked = [&](const std::string& text) {
          return std::find(options_.formats.begin(), options_.formats.end(), text) != options_.formats.end();
        };
        if (!options_.formats.empty() && !asked(name) && !asked(pair.activation)) continue;
        if (options_.spread && pair.format != "mxfp4") continue;
        const auto x = shape.find('x');
        const std::int64_t group = format_by_name(pair.format).block.k;
        std::int64_t k = std::stoll(shape.substr(x + 1));
        if (group > 0) k = (k + group - 1) / group * group;
        list.push_back({pair, name, std::stoll(shape.substr(0, x)), k});
      }
    return list;
  }

  GemmProblem problem(const Job& job, std::int64_t m) const {
    const ActivationFormat activation = activation_by_name(job.pair.activation);
    const WeightLayout layout = weight_layout(format_by_name(job.pair.format), activation, job.pair.accuracy);
    return {{layout, activation, options_.float_output ? DType::kF32 : DType::kBF16, false,
             options_.race_checkable},
            m,
            job.n,
            job.k,
            job.pair.accuracy == Accuracy::kHigh,
            options_.promote};
  }

  /// Everything that will be needed, on all processors; errors show where a kernel is used.
  void compile(std::span<const Job> jobs) {
    std::map<std::string, jit::KernelSource> sources;
    for (const Job& job : jobs)
      for (const std::int64_t m : options_.m) {
        const GemmProblem problem = this->problem(job, m);
        for (const Candidate& c : choose(problem)) {
          KernelFormats formats = problem.formats;
          formats.scale_after = c.scale_after;
          jit::KernelSource source = kernel_source(c.shape, formats, model_.architecture);
          sources.emplace(source.name, std::move(source));
        }
      }
    std::vector<jit::KernelSource> list;
    for (auto& [name, source] : sources) list.push_back(std::move(source));
    compiler_.compile_all(list);
  }

  /// The first kernels of each family by the cost model.
  std::vector<Candidate> choose(const GemmProblem& problem) const {
    std::vector<Candidate> chosen;
    std::size_t counts[2] = {};
    for (const Candidate& c : candidates(model_, problem, kEveryCandidate)) {
      std::size_t& count = counts[c.shape.family == KernelShape::Family::kMma];
      if (count++ < options_.per_family) chosen.push_back(c);
    }
    return chosen;
  }

  void check(const Job& job) {
    const CoveredPair& pair = job.pair;
    const std::string& name = job.name;
    const std::int64_t n = job.n, k = job.k;
    RandomWeight weight(format_by_name(pair.format), n, k, 11);
    if (options_.spread) spread_exponents(weight);
    const ActivationFormat activation = activation_by_name(pair.activation);
    const WeightLayout layout = weight_layout(weight.format, activation, pair.accuracy);
    const PackedHostWeight packed = pack_weight(weight.source(), layout);
    const std::int64_t max_m = *std::max_element(options_.m.begin(), options_.m.end());
    const RandomActivations activations(activation, max_m, k);
    const DType output = options_.float_output ? DType::kF32 : DType::kBF16;

    const std::size_t copies = options_.time ? kRotatedBytes / packed.bytes.size() + 2 : 1;
    std::vector<jit::DeviceBuffer> weights;
    for (std::size_t i = 0; i < copies; ++i) weights.push_back(upload(packed.bytes));
    const jit::DeviceBuffer x = upload(activations.codes);
    const std::size_t y_bytes = static_cast<std::size_t>(max_m * n) * 4 + 2 * kGuardBytes;
    const jit::DeviceBuffer y(device_, y_bytes);
    const std::vector<double> expected =
        options_.time ? std::vector<double>{} : reference(weight, activations.values(), max_m);

    for (const std::int64_t m : options_.m) {
      const jit::DeviceBuffer scales = upload(activations.scales_of(m));
      const GemmProblem problem = this->problem(job, m);
      const std::vector<Candidate> chosen = choose(problem);
      if (chosen.empty()) {
        ++failures_;
        fmt::print("  FAIL {} {}x{} m={}: no kernel\n", name, n, k, m);
      }
      for (const Candidate& c : chosen) {
        KernelFormats formats = problem.formats;
        formats.scale_after = c.scale_after;
        GemmOperands o;
        o.shape = packed.shape;
        o.has_factors = packed.has_factors;
        o.x = x.data();
        o.x_stride = k;
        o.x_scale = activation.scale ? scales.data() : nullptr;
        o.x_scale_stride = m;
        o.y = y.as<std::byte>() + kGuardBytes;
        o.y_stride = n;
        o.m = m;
        o.weight = weights[0].data();
        ++cells_;
        try {
          const GemmKernel& kernel = this->kernel(c.shape, formats);
          if (const Feasibility feasible = kernel.can_run(o); !feasible)
            fail(ErrorCode::kInternal, "{}", feasible.reason);
          if (options_.time)
            time(kernel, o, weights, name, c, pair);
          else
            compare(kernel, o, y, expected, error_bound(layout, c.scale_after, output), output);
        } catch (const Error& error) {
          ++failures_;
          fmt::print("  FAIL {} {}x{} m={} {} {}: {}\n", name, n, k, m, c.shape.to_string(),
                     c.scale_after ? layout.decoder_after : layout.decoder, error.what());
          std::fflush(stdout);
          if (error.code() == ErrorCode::kDevice) throw;
        }
      }
    }
  }

  std::vector<double> reference(const RandomWeight& weight, const std::vector<float>& activations,
                                std::int64_t m) {
    std::vector<double> out(static_cast<std::size_t>(m * weight.n));
    pool_.parallel_for(weight.n, [&](std::int64_t row, int) {
      std::vector<double> values(static_cast<std::size_t>(weight.k));
      for (std::int64_t c = 0; c < weight.k; ++c) values[static_cast<std::size_t>(c)] = weight.value(row, c);
      for (std::int64_t t = 0; t < m; ++t) {
        double sum = 0;
        for (std::int64_t c = 0; c < weight.k; ++c)
          sum += values[static_cast<std::size_t>(c)] *
                 static_cast<double>(activations[static_cast<std::size_t>(t * weight.k + c)]);
        out[static_cast<std::size_t>(t * weight.n + row)] = sum;
      }
    });
    return out;
  }

  const GemmKernel& kernel(const KernelShape& shape, const KernelFormats& formats) {
    const std::string key = kernel_source(shape, formats, device_->info().architecture).name;
    auto it = loaded_.find(key);
    if (it == loaded_.end()) {
      it = loaded_.emplace(key, GemmKernel(device_, compiler_, shape, formats)).first;
      ++kernels_;
      if (it->second.attributes().local_bytes > 0) fmt::print("  {} spills\n", key);
    }
    return it->second;
  }

  void compare(const GemmKernel& kernel, const GemmOperands& o, const jit::DeviceBuffer& y,
               const std::vector<double>& expected, double bound, DType output) {
    const std::size_t y_size = static_cast<std::size_t>(o.m * o.shape.n) * size_of(output);
    std::vector<std::byte> runs[2];
    for (std::vector<std::byte>& run : runs) {
      run.resize(y_size + 2 * kGuardBytes);
      jit::set_bytes(y.data(), 0xff, run.size(), stream_);
      kernel.enqueue(o, stream_, &run == &runs[1]);
      jit::copy_to_host(run, y.data(), stream_);
      jit::synchronize(stream_);
    }
    if (runs[0] != runs[1]) {
      const auto at = static_cast<std::size_t>(
          std::mismatch(runs[0].begin(), runs[0].end(), runs[1].begin()).first - runs[0].begin());
      fail(ErrorCode::kInternal, "two runs differ from byte {} of the output on; the first: {}",
           static_cast<std::ptrdiff_t>(at) - static_cast<std::ptrdiff_t>(kGuardBytes),
           describe_differences(runs[0], kGuardBytes, expected, o.m, o.shape.n, output));
    }
    for (std::size_t i = 0; i < kGuardBytes; ++i)
      SABREWING_CHECK(runs[0][i] == std::byte{0xff} && runs[0][kGuardBytes + y_size + i] == std::byte{0xff},
                      kInternal, "a guard byte was written");
    const ElementType type = output == DType::kF32 ? formats::kFP32 : formats::kBF16;
    // The reference may have more rows than are asked for.
    const std::span<const double> wanted(expected.data(), static_cast<std::size_t>(o.m * o.shape.n));
    std::vector<float> got(wanted.size());
    std::vector<double> row_error(static_cast<std::size_t>(o.shape.n)),
        row_norm(static_cast<std::size_t>(o.shape.n));
    for (std::size_t e = 0; e < wanted.size(); ++e) {
      std::uint32_t code = 0;
      std::memcpy(&code, runs[0].data() + kGuardBytes + e * size_of(output), size_of(output));
      got[e] = formats::decode(type, code);
      const double d = std::isfinite(got[e]) ? got[e] - wanted[e] : 1e30;
      row_error[e % row_error.size()] += d * d;
      row_norm[e % row_error.size()] += wanted[e] * wanted[e];
    }
    double worst_row = 0;
    for (std::size_t r = 0; r < row_error.size(); ++r)
      worst_row = std::max(worst_row, std::sqrt(row_error[r] / row_norm[r]));
    const GemmErrors errors = gemm_errors(got, wanted, o.m, type);
    std::string trouble;
    if (!errors.within(bound))
      trouble = fmt::format("error {:.2e}, {:.1e} allowed", errors.frobenius, bound);
    else if (o.m * o.shape.n >= 10000 && !options_.spread && !errors.tails_within_bound())
      trouble = fmt::format("p99.9 {:.2e}, {:.2e} of rounding alone", errors.p999, errors.least_p999);
    else if (options_.spread && o.m >= 16 && !(worst_row <= 0.01))
      trouble = fmt::format("worst row {:.2e}", worst_row);
    if (!trouble.empty())
      fail(ErrorCode::kInternal, "{}: {}", trouble,
           describe_differences(runs[0], kGuardBytes, expected, o.m, o.shape.n, output));
    worst_row_ = std::max(worst_row_, worst_row);
    worst_ = std::max(worst_, errors.frobenius);
    if (o.m * o.shape.n >= 10000) worst_p999_ = std::max(worst_p999_, errors.p999);
  }

  void time(const GemmKernel& kernel, const GemmOperands& operands,
            const std::vector<jit::DeviceBuffer>& weights, const std::string& name, const Candidate& c,
            const CoveredPair& pair) {
    constexpr int kCalls = 16;
    const jit::Graph graph = jit::Graph::capture(device_, stream_, [&] {
      for (std::size_t i = 0; i < kCalls; ++i) {
        GemmOperands o = operands;
        o.weight = weights[i % weights.size()].data();
        kernel.enqueue(o, stream_, true);
      }
    });
    std::vector<double> times;
    // Long kernels would be read at the clocks that those before them left behind.
    if (operands.m >= kBurstFrom) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    graph.launch(stream_);
    for (int i = 0; i < 7; ++i) {
      jit::Event from(device_), to(device_);
      from.record(stream_);
      graph.launch(stream_);
      to.record(stream_);
      stream_.synchronize();
      times.push_back(to.microseconds_since(from) / kCalls);
    }
    std::sort(times.begin(), times.end());
    const double us = times[times.size() / 2];
    fmt::print("{:40} {}x{} m={:<5} {:8.2f} us (predicted {:.1f})  {}\n", name, operands.shape.n,
               operands.shape.k, operands.m, us, c.predicted_us, c.shape.to_string());
    std::fflush(stdout);
    rows_.push_back({{"n", operands.shape.n},
                     {"k", operands.shape.k},
                     {"m", operands.m},
                     {"weights", pair.format},
                     {"activations", pair.activation},
                     {"impl", "sabrewing"},
                     {"kernel", c.shape.to_string()},
                     {"us", us}});
  }

  const Options& options_;
  jit::DevicePtr device_;
  jit::Stream stream_;
  jit::Compiler compiler_;
  DeviceModel model_;
  ThreadPool pool_;
  std::map<std::string, GemmKernel> loaded_;
  nlohmann::json rows_ = nlohmann::json::array();
  int cells_ = 0, failures_ = 0, kernels_ = 0;
  double worst_ = 0, worst_p999_ = 0, worst_row_ = 0;
};

}  // namespace
}  // namespace sabrewing::kernels::cuda

int main(int argc, char** argv) {
  sabrewing::kernels::cuda::Options options;
  CLI::App app("Checks the covering set of the CUDA GEMM kernels");
  app.add_option("--formats", options.formats, "\"WEIGHT x ACTIVATION\" or activations; default: all")
      ->delimiter(',');
  app.add_option("--shapes", options.shapes, "NxK")->delimiter(',');
  app.add_option("--m", options.m)->delimiter(',');
  app.add_option("--per-family", options.per_family, "Kernels of each family and size");
  app.add_option("--deadline", options.deadline_s, "Seconds");
  app.add_option("--out", options.out, "JSON file of times");
  app.add_flag("--float-output", options.float_output);
  app.add_flag("--spread", options.spread, "mxfp4 with scales over 20 binades");
  app.add_option("--promote", options.promote, "Columns of FP8 products that an instruction sums");
  app.add_flag("--race-checkable", options.race_checkable, "For compute-sanitizer --tool racecheck");
  app.add_flag("--time", options.time, "Times instead of errors");
  CLI11_PARSE(app, argc, argv);
  try {
    return sabrewing::kernels::cuda::Check(options).run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
