#include "kernels/cuda/bench/gemm_cell.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "core/thread_pool.h"
#include "formats/numeric/element_type.h"
#include "jit/launch.h"
#include "kernels/cuda/bench/random_activations.h"

namespace sabrewing::kernels::cuda {

namespace {

constexpr std::size_t kRotatedBytes = 256u << 20;  // four times the L2 cache
constexpr double kFlopsPerUs = 790e6;              // of 16-bit operands

constexpr const char* kToolSource = R"(
extern "C" __global__ void spin(long long nanoseconds) {
  long long begin, now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
  do { asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)); } while (now - begin < nanoseconds);
}
// out[m][i] = x[m] . weight[rows[i]] in FP64, from the checkpoint's own bytes and the activations' codes.
extern "C" __global__ void reference(const unsigned char* values, long long row_bytes, int bits, const float* scales,
                                     int groups, int group, const float* table, const unsigned char* x, int x_bytes,
                                     const float* x_table, const float* x_scales, int x_group, const int* rows,
                                     int row_count, int m, int k, double* out) {
  __shared__ double weights[16][33], tokens[16][33];
  const int i = blockIdx.x * 16 + threadIdx.x % 16, t = blockIdx.y * 16 + threadIdx.x / 16;
  double sum = 0;
  for (int k0 = 0; k0 < k; k0 += 32) {
    for (int e = threadIdx.x; e < 512; e += 256) {
      const int r = e / 32, c = k0 + e % 32;
      const int index = blockIdx.x * 16 + r, token = blockIdx.y * 16 + r;
      double w = 0, v = 0;
      if (index < row_count && c < k) {
        const long long row = rows[index];
        const unsigned char byte = values[row * row_bytes + c * bits / 8];
        const int code = bits == 8 ? byte : byte >> (c % 2 * 4) & 15;
        w = static_cast<double>(table[code]) * scales[row * groups + c / group];
      }
      if (token < m && c < k) {
        const long long at = static_cast<long long>(token) * k + c;
        v = x_table[x_bytes == 1 ? x[at] : reinterpret_cast<const unsigned short*>(x)[at]];
        if (x_scales != nullptr) v *= x_scales[static_cast<long long>(c / x_group) * m + token];
      }
      weights[r][e % 32] = w;
      tokens[r][e % 32] = v;
    }
    __syncthreads();
    for (int c = 0; c < 32; ++c) sum += weights[threadIdx.x % 16][c] * tokens[threadIdx.x / 16][c];
    __syncthreads();
  }
  if (i < row_count && t < m) out[static_cast<long long>(t) * row_count + i] = sum;
}
extern "C" __global__ void gather(const void* y, int is_float, long long stride, const int* rows, int row_count, int m,
                                  float* out) {
  const long long e = blockIdx.x * 256ll + threadIdx.x;
  if (e >= static_cast<long long>(row_count) * m) return;
  const long long at = e / row_count * stride + rows[e % row_count];
  out[e] = is_float ? static_cast<const float*>(y)[at]
                    : __uint_as_float(static_cast<unsigned>(static_cast<const unsigned short*>(y)[at]) << 16);
}
extern "C" __global__ void count_differences(const unsigned* a, const unsigned* b, long long words, unsigned* count) {
  for (long long e = blockIdx.x * 256ll + threadIdx.x; e < words; e += gridDim.x * 256ll)
    if (a[e] != b[e]) atomicAdd(count, 1);
}
)";

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& v) {
  return std::as_bytes(std::span(v));
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

}  // namespace

BenchDevice::BenchDevice(jit::DevicePtr device, std::shared_ptr<jit::Compiler> compiler)
    : device_(std::move(device)), stream_(device_), compiler_(std::move(compiler)) {
  jit::KernelSource source;
  source.name = "tools";
  source.source = kToolSource;
  source.architecture = device_->info().architecture;
  tools_ = std::make_unique<jit::Module>(device_, compiler_->compile(source)->cubin, "tools");
  spin_ = tools_->kernel("spin");
  reference_ = tools_->kernel("reference");
  gather_ = tools_->kernel("gather");
  differences_ = tools_->kernel("count_differences");
}

jit::DeviceBuffer BenchDevice::upload(std::span<const std::byte> bytes) {
  jit::DeviceBuffer buffer(device_, bytes.size());
  jit::copy_to_device(buffer.data(), bytes, stream_);
  stream_.synchronize();
  return buffer;
}

double BenchDevice::time(const std::function<void(int)>& enqueue, double estimate_us, Timing timing) {
  const int calls = static_cast<int>(std::clamp(2000.0 / estimate_us, 1.0, 40.0));
  const jit::Graph graph = jit::Graph::capture(device_, stream_, [&] {
    for (int i = 0; i < calls; ++i) enqueue(i);
  });
  const auto replay = [&](int warm, int count) {
    std::vector<jit::Event> events;
    for (int i = 0; i <= count; ++i) events.emplace_back(device_);
    jit::LaunchConfig config;
    config.stream = stream_;
    jit::launch(spin_, config, 300'000ll + 30'000ll * count);
    for (int i = 0; i < warm; ++i) graph.launch(stream_);
    events[0].record(stream_);
    for (int i = 0; i < count; ++i) {
      graph.launch(stream_);
      events[static_cast<std::size_t>(i) + 1].record(stream_);
    }
    stream_.synchronize();
    std::vector<double> times;
    for (int i = 0; i < count; ++i)
      times.push_back(
          events[static_cast<std::size_t>(i) + 1].microseconds_since(events[static_cast<std::size_t>(i)]) /
          calls);
    return times;
  };
  if (timing == Timing::kQuick) return median(replay(1, 3));
  if (timing == Timing::kSteady) return std::min(median(replay(2, 10)), median(replay(1, 10)));
  std::vector<double> kept;
  for (int b = 0; b < 4; ++b) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const std::vector<double> times = replay(1, 5);
    if (b >= 2) kept.insert(kept.end(), times.begin(), times.end());
  }
  return median(kept);
}

GemmErrors gemm_errors(std::span<const float> got, std::span<const double> expected, std::int64_t m,
                       formats::ElementType type) {
  SABREWING_CHECK(m > 0 && got.size() == expected.size() && got.size() % static_cast<std::size_t>(m) == 0,
                  kInvalidArgument, "[bench] {} outputs of {} rows against {} of the reference", got.size(),
                  m, expected.size());
  const std::size_t columns = expected.size() / static_cast<std::size_t>(m);
  double error = 0, least = 0, norm = 0;
  std::vector<double> relative, least_relative;
  relative.reserve(got.size());
  least_relative.reserve(got.size());
  for (std::size_t row = 0; row < expected.size(); row += columns) {
    double row_norm = 0;
    for (std::size_t e = row; e < row + columns; ++e) row_norm += expected[e] * expected[e];
    const double rms = std::sqrt(row_norm / static_cast<double>(columns));
    norm += row_norm;
    for (std::size_t e = row; e < row + columns; ++e) {
      const double d = std::isfinite(got[e]) ? got[e] - expected[e] : 1e30;
      error += d * d;
      relative.push_back(std::abs(d) / rms);
      const double rounding = formats::decode(type, formats::encode(type, expected[e])) - expected[e];
      least += rounding * rounding;
      least_relative.push_back(std::abs(rounding) / rms);
    }
  }
  const auto tail = [](std::vector<double>& values) {
    const auto at = values.begin() + static_cast<std::ptrdiff_t>(values.size() * 999 / 1000);
    std::nth_element(values.begin(), at, values.end());
    return *at;
  };
  return {std::sqrt(error / norm), tail(relative), std::sqrt(least / norm), tail(least_relative)};
}

double error_bound(const WeightLayout& layout, bool scale_after, DType output) {
  // FP8 instructions keep sums of few bits.
  if (layout.operand == Operand::kE4M3 || layout.operand == Operand::kE5M2)
    return output == DType::kF32 ? 2e-3 : 2.5e-3;
  const bool rounds = layout.pre_scaled && !scale_after;
  if (output == DType::kF32) return rounds ? 1.5e-3 : 1e-5;
  return rounds ? 2.3e-3 : 2.0e-3;
}

GemmCell::GemmCell(BenchDevice& bench, const GemmDesc& desc, std::int64_t max_m, bool rotate, bool all_rows)
    : bench_(bench),
      activation_(desc.activation),
      weight_(desc.weight, desc.n, desc.k, 11),
      layout_(weight_layout(desc.weight, desc.activation, desc.accuracy)) {
  const std::int64_t n = desc.n, k = desc.k;
  // Blocks of 64 rows pack independently of each other.
  const PackedShape shape = PackedShape::of(layout_, n, k);
  packed_.shape = shape;
  packed_.bytes.resize(shape.bytes);
  const std::size_t block_bytes = static_cast<std::size_t>(shape.slabs) * layout_.slab_bytes();
  ThreadPool pool(available_processors());
  pool.parallel_for(shape.row_blocks, [&](std::int64_t block, int) {
    const WeightSource part = weight_.source(block * 64, std::min<std::int64_t>(64, n - block * 64));
    const PackedHostWeight one = pack_weight(part, layout_);
    std::memcpy(packed_.bytes.data() + static_cast<std::size_t>(block) * block_bytes, one.bytes.data(),
                block_bytes);
    std::memcpy(packed_.bytes.data() + shape.factor_offset + static_cast<std::size_t>(block) * 256,
                one.bytes.data() + one.shape.factor_offset, 256);
    if (one.has_factors) packed_.has_factors = true;
  });
  const std::size_t copies = rotate ? std::max<std::size_t>(2, kRotatedBytes / shape.bytes + 1) : 1;
  copies_.push_back(bench.upload(bytes_of(packed_.bytes)));
  for (std::size_t i = 1; i < copies; ++i) {
    copies_.emplace_back(bench.device(), shape.bytes);
    jit::copy_on_device(copies_.back().data(), copies_[0].data(), shape.bytes, bench.stream());
  }
  const RandomActivations activations(activation_, max_m, k);
  x_ = bench.upload(activations.codes);
  if (activation_.scale) {
    x_scales_ = bench.upload(activations.scales);
    x_scale_values_ = bench.upload(bytes_of(activations.scale_values()));
  }
  x_group_ = activations.group;
  const formats::ElementType stored = activations.stored();
  x_bytes_ = stored.bits / 8;
  std::vector<float> x_table(std::size_t{1} << stored.bits);
  for (std::size_t code = 0; code < x_table.size(); ++code)
    x_table[code] = formats::decode(stored, static_cast<std::uint32_t>(code));
  x_table_ = bench.upload(bytes_of(x_table));
  values_ = bench.upload(bytes_of(weight_.values));
  std::vector<float> scales(static_cast<std::size_t>(n * weight_.groups));
  pool.parallel_for(n, [&](std::int64_t r, int) {
    for (std::int64_t g = 0; g < weight_.groups; ++g)
      scales[static_cast<std::size_t>(r * weight_.groups + g)] = weight_.scale(r, g);
  });
  scales_ = bench.upload(bytes_of(scales));
  table_ = bench.upload(bytes_of(formats::decode_table(weight_.format.element)));
  std::vector<std::int32_t> rows;
  for (std::int64_t r = 0; r < n; ++r)
    if (all_rows || n <= 256 || r < 64 || r >= n - 64 || r % (n / 128) == 0)
      rows.push_back(static_cast<int>(r));
  rows_ = bench.upload(bytes_of(rows));
  row_count_ = static_cast<int>(rows.size());
  const std::size_t y_bytes = static_cast<std::size_t>(max_m * n) * 4 + 2 * kGuardBytes;
  y_ = jit::DeviceBuffer(bench.device(), y_bytes);
  y2_ = jit::DeviceBuffer(bench.device(), y_bytes);
}

GemmOperands GemmCell::operands(std::int64_t m, std::size_t copy, const jit::DeviceBuffer& y) const {
  GemmOperands o;
  o.weight = copies_[copy % copies_.size()].data();
  o.shape = packed_.shape;
  o.has_factors = packed_.has_factors;
  o.x = x_.data();
  o.x_stride = k();
  o.x_scale = x_scales_.data();
  o.x_scale_stride = m;
  o.y = y.as<std::byte>() + kGuardBytes;
  o.y_stride = n();
  o.m = m;
  return o;
}
GemmArgs GemmCell::args(const CudaGemmPlan& plan, const PackedWeight& weight, std::int64_t m) const {
  GemmArgs args;
  args.a = {x_.data(), activation_dtype(activation_.element), m, k(), k()};
  args.a_scales = x_scales_.data();
  args.b = &weight;
  args.c = {y_.as<std::byte>() + kGuardBytes, plan.desc().output, m, n(), n()};
  return args;
}

std::vector<PackedWeight> GemmCell::packed(const CudaGemmPlan& plan) const {
  std::vector<PackedWeight> weights;
  for (const jit::DeviceBuffer& copy : copies_)
    weights.push_back(GemmPlanner::wrap(plan, {nullptr, copy.data(), copy.size()}));
  return weights;
}

void GemmCell::make_reference(std::int64_t m) {
  reference_ = jit::DeviceBuffer(bench_.device(),
                                 static_cast<std::size_t>(m) * static_cast<std::size_t>(row_count_) * 8);
  jit::LaunchConfig config;
  config.grid = {static_cast<unsigned>(row_count_ + 15) / 16, static_cast<unsigned>(m + 15) / 16, 1};
  config.block = {256, 1, 1};
  config.stream = bench_.stream();
  jit::launch(bench_.reference_, config, values_.data(), static_cast<long long>(weight_.row_bytes),
              static_cast<int>(weight_.format.element.bits), scales_.data(), static_cast<int>(weight_.groups),
              static_cast<int>(weight_.format.block.k > 0 ? weight_.format.block.k : k()), table_.data(),
              x_.data(), x_bytes_, x_table_.data(), x_scale_values_.data(), static_cast<int>(x_group_),
              rows_.data(), row_count_, static_cast<int>(m), static_cast<int>(k()), reference_.data());
  expected_.resize(static_cast<std::size_t>(m) * static_cast<std::size_t>(row_count_));
  jit::copy_to_host(std::as_writable_bytes(std::span(expected_)), reference_.data(), bench_.stream());
  jit::synchronize(bench_.stream());
}

GemmErrors GemmCell::check(const std::function<void(void* y, bool second)>& enqueue, std::int64_t m,
                           DType output) {
  const std::size_t y_size = static_cast<std::size_t>(m * n()) * size_of(output);
  for (const jit::DeviceBuffer* y : {&y_, &y2_}) {
    jit::set_bytes(y->data(), 0xff, kGuardBytes + y_size + kGuardBytes, bench_.stream());
    enqueue(y->as<std::byte>() + kGuardBytes, y == &y2_);
  }
  std::vector<std::byte> guard(kGuardBytes);
  for (const std::size_t at : {std::size_t{0}, kGuardBytes + y_size}) {
    jit::copy_to_host(guard, y_.as<std::byte>() + at, bench_.stream());
    jit::synchronize(bench_.stream());
    for (const std::byte b : guard)
      SABREWING_CHECK(b == std::byte{0xff}, kInternal, "[check] a guard byte was written ({})",
                      at == 0 ? "before" : "behind");
  }
  const jit::DeviceBuffer count = bench_.upload(bytes_of(std::vector<std::uint32_t>{0}));
  jit::LaunchConfig config;
  config.grid = {1024, 1, 1};
  config.block = {256, 1, 1};
  config.stream = bench_.stream();
  jit::launch(bench_.differences_, config, y_.data(), y2_.data(),
              static_cast<long long>((kGuardBytes + y_size + kGuardBytes) / 4), count.data());
  const jit::DeviceBuffer gathered(bench_.device(), expected_.size() * 4);
  config.grid = {static_cast<unsigned>((expected_.size() + 255) / 256), 1, 1};
  jit::launch(bench_.gather_, config, static_cast<void*>(y_.as<std::byte>() + kGuardBytes),
              static_cast<int>(output == DType::kF32), static_cast<long long>(n()), rows_.data(), row_count_,
              static_cast<int>(m), gathered.data());
  std::vector<float> got(expected_.size());
  std::uint32_t differences = 0;
  jit::copy_to_host(std::as_writable_bytes(std::span(got)), gathered.data(), bench_.stream());
  jit::copy_to_host(std::as_writable_bytes(std::span(&differences, 1)), count.data(), bench_.stream());
  jit::synchronize(bench_.stream());
  SABREWING_CHECK(differences == 0, kInternal, "[check] two runs differ in {} words", differences);
  const formats::ElementType type = output == DType::kF32   ? formats::kFP32
                                    : output == DType::kF16 ? formats::kFP16
                                                            : formats::kBF16;
  return gemm_errors(got, expected_, m, type);
}

GemmErrors GemmCell::check(const GemmKernel& kernel, std::int64_t m, DType output, bool overlap) {
  return check(
      [&](void*, bool second) {
        kernel.enqueue(operands(m, 0, second ? y2_ : y_), bench_.stream(), overlap && second);
      },
      m, output);
}

double GemmCell::floor_us(std::int64_t m) const {
  const double groups =
      weight_.format.block.k > 0 ? static_cast<double>(k()) / static_cast<double>(weight_.format.block.k) : 1;
  const double bytes =
      static_cast<double>(n()) * (static_cast<double>(k()) * weight_.format.element.bits / 8 +
                                  groups * weight_.format.scale->bits / 8) +
      static_cast<double>(m) * (2.0 * static_cast<double>(n()) + static_cast<double>(x_bytes_ * k()));
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n()) * static_cast<double>(k());
  return std::max(bytes / kMemoryBytesPerUs, flops * operand_bytes(layout_.operand) / 2 / kFlopsPerUs);
}

}  // namespace sabrewing::kernels::cuda
