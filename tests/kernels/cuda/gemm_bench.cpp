// Checks the CUDA GEMM kernels against float64 and times them on the device of this machine.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/thread_pool.h"
#include "formats/numeric/element_type.h"
#include "formats/numeric/float16.h"
#include "gemm_problem.h"
#include "kernels/cuda/gemm/gemm_kernel.h"
#include "kernels/cuda/gemm/planner.h"

namespace sabrewing::kernels::cuda {
namespace {

using Clock = std::chrono::steady_clock;
using testing::RandomWeight;

constexpr std::size_t kGuardBytes = 4096;
constexpr std::size_t kRotatedBytes = 256u << 20;  // four times the L2 cache
constexpr std::int64_t kEnoughOutputs = 100'000;   // for a 99.9th percentile
constexpr double kMemoryBytesPerUs = 4.28e6;
constexpr double kFlopsPerUs = 790e6;

constexpr const char* kToolSource = R"(
extern "C" __global__ void spin(long long nanoseconds) {
  long long begin, now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
  do { asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)); } while (now - begin < nanoseconds);
}
// out[m][i] = x[m] . weight[rows[i]] in FP64, from the checkpoint's own bytes.
extern "C" __global__ void reference(const unsigned char* values, long long row_bytes, int bits, const float* scales,
                                     int groups, const float* table, const unsigned short* x, const int* rows,
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
        w = static_cast<double>(table[code]) * scales[row * groups + c / (k / groups)];
      }
      if (token < m && c < k)
        v = __uint_as_float(static_cast<unsigned>(x[static_cast<long long>(token) * k + c]) << 16);
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

struct Errors {
  double frobenius = 0;
  double p999 = 0;  ///< of |error| over the root mean square of the reference's row (one token)
};

class Bench {
 public:
  explicit Bench(jit::DevicePtr device) : device_(std::move(device)), stream_(device_) {
    jit::KernelSource source;
    source.name = "tools";
    source.source = kToolSource;
    source.architecture = device_->info().architecture;
    tools_ = std::make_unique<jit::Module>(device_, compiler_.compile(source)->cubin, "tools");
    spin_ = tools_->kernel("spin");
    reference_ = tools_->kernel("reference");
    gather_ = tools_->kernel("gather");
    differences_ = tools_->kernel("count_differences");
  }

  jit::Compiler& compiler() { return compiler_; }
  const jit::DevicePtr& device() const { return device_; }
  jit::StreamHandle stream() const { return stream_; }

  template <typename T>
  jit::DeviceBuffer upload(const std::vector<T>& v) {
    jit::DeviceBuffer buffer(device_, v.size() * sizeof(T));
    jit::copy_to_device(buffer.data(), bytes_of(v), stream_);
    stream_.synchronize();
    return buffer;
  }

  const GemmKernel& kernel(const KernelShape& shape, const KernelFormats& formats) {
    const std::string key = kernel_source(shape, formats, device_->info().architecture).name;
    auto it = kernels_.find(key);
    if (it == kernels_.end())
      it = kernels_.emplace(key, GemmKernel(device_, compiler_, shape, formats)).first;
    return it->second;
  }

  /// Median microseconds of a call; `enqueue(i)` puts call i on the stream.
  double time(const std::function<void(int)>& enqueue, double estimate_us, bool burst) {
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
    if (!burst) return std::min(median(replay(2, 10)), median(replay(1, 10)));
    std::vector<double> kept;
    for (int b = 0; b < 4; ++b) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      const std::vector<double> times = replay(1, 5);
      if (b >= 2) kept.insert(kept.end(), times.begin(), times.end());
    }
    return median(kept);
  }

  jit::Kernel reference_, gather_, differences_;

 private:
  jit::DevicePtr device_;
  jit::Stream stream_;
  jit::Compiler compiler_;
  std::unique_ptr<jit::Module> tools_;
  jit::Kernel spin_;
  std::map<std::string, GemmKernel> kernels_;
};

/// One weight on the device, with copies to rotate through, and activations.
class Cell {
 public:
  Cell(Bench& bench, const std::string& format, std::int64_t n, std::int64_t k, std::int64_t max_m,
       bool rotate, bool all_rows)
      : bench_(bench),
        weight_(testing::format_by_name(format), n, k, 11),
        layout_(weight_layout(weight_.format)) {
    // Blocks of 64 rows pack independently of each other.
    const PackedShape shape = PackedShape::of(layout_, n, k);
    packed_.shape = shape;
    packed_.bytes.resize(shape.bytes);
    const std::size_t block_bytes = static_cast<std::size_t>(shape.slabs) * layout_.slab_bytes();
    ThreadPool pool(available_processors());
    pool.parallel_for(shape.row_blocks, [&](std::int64_t block, int) {
      WeightSource part = weight_.source();
      WeightRows& rows = part.parts[0];
      rows.values += block * 64 * rows.row_stride;
      rows.scales += block * 64 * rows.scale_row_stride;
      rows.rows = std::min<std::int64_t>(64, n - block * 64);
      const PackedHostWeight one = pack_weight(part);
      std::memcpy(packed_.bytes.data() + static_cast<std::size_t>(block) * block_bytes, one.bytes.data(),
                  block_bytes);
      std::memcpy(packed_.bytes.data() + shape.factor_offset + static_cast<std::size_t>(block) * 256,
                  one.bytes.data() + one.shape.factor_offset, 256);
      if (one.has_factors) packed_.has_factors = true;
    });
    const std::size_t copies = rotate ? std::max<std::size_t>(2, kRotatedBytes / shape.bytes + 1) : 1;
    copies_.push_back(bench.upload(packed_.bytes));
    for (std::size_t i = 1; i < copies; ++i) {
      copies_.emplace_back(bench.device(), shape.bytes);
      jit::copy_on_device(copies_.back().data(), copies_[0].data(), shape.bytes, bench.stream());
    }
    x_ = bench.upload(testing::random_bf16(static_cast<std::size_t>(max_m * k), 5));
    values_ = bench.upload(weight_.values);
    std::vector<float> scales(static_cast<std::size_t>(n * weight_.groups));
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t g = 0; g < weight_.groups; ++g)
        scales[static_cast<std::size_t>(r * weight_.groups + g)] = weight_.scale(r, g);
    scales_ = bench.upload(scales);
    table_ = bench.upload(formats::decode_table(weight_.format.element));
    std::vector<std::int32_t> rows;
    for (std::int64_t r = 0; r < n; ++r)
      if (all_rows || n <= 256 || r < 64 || r >= n - 64 || r % (n / 128) == 0)
        rows.push_back(static_cast<int>(r));
    rows_ = bench.upload(rows);
    row_count_ = static_cast<int>(rows.size());
    y_bytes_ = static_cast<std::size_t>(max_m * n) * 4 + 2 * kGuardBytes;
    y_ = jit::DeviceBuffer(bench.device(), y_bytes_);
    y2_ = jit::DeviceBuffer(bench.device(), y_bytes_);
  }

  const WeightLayout& layout() const { return layout_; }
  std::int64_t n() const { return weight_.n; }
  std::int64_t k() const { return weight_.k; }

  GemmOperands operands(std::int64_t m, std::size_t copy, const jit::DeviceBuffer& y) const {
    GemmOperands o;
    o.weight = copies_[copy % copies_.size()].data();
    o.shape = packed_.shape;
    o.has_factors = packed_.has_factors;
    o.x = x_.data();
    o.x_stride = k();
    o.y = y.as<std::byte>() + kGuardBytes;
    o.y_stride = n();
    o.m = m;
    return o;
  }
  GemmOperands operands(std::int64_t m, std::size_t copy) const { return operands(m, copy, y_); }

  void make_reference(std::int64_t m) {
    reference_ = jit::DeviceBuffer(bench_.device(),
                                   static_cast<std::size_t>(m) * static_cast<std::size_t>(row_count_) * 8);
    jit::LaunchConfig config;
    config.grid = {static_cast<unsigned>(row_count_ + 15) / 16, static_cast<unsigned>(m + 15) / 16, 1};
    config.block = {256, 1, 1};
    config.stream = bench_.stream();
    jit::launch(bench_.reference_, config, values_.data(), static_cast<long long>(weight_.row_bytes),
                static_cast<int>(weight_.format.element.bits), scales_.data(),
                static_cast<int>(weight_.groups), table_.data(), x_.data(), rows_.data(), row_count_,
                static_cast<int>(m), static_cast<int>(k()), reference_.data());
    expected_.resize(static_cast<std::size_t>(m) * static_cast<std::size_t>(row_count_));
    jit::copy_to_host(std::as_writable_bytes(std::span(expected_)), reference_.data(), bench_.stream());
    jit::synchronize(bench_.stream());
  }

  /// Runs the kernel twice into poisoned memory. Throws when a guard changed or the runs differ.
  Errors check(const GemmKernel& kernel, std::int64_t m, DType output, bool overlap) {
    const std::size_t y_size = static_cast<std::size_t>(m * n()) * size_of(output);
    for (const jit::DeviceBuffer* y : {&y_, &y2_}) {
      jit::set_bytes(y->data(), 0xff, kGuardBytes + y_size + kGuardBytes, bench_.stream());
      kernel.enqueue(operands(m, 0, *y), bench_.stream(), overlap && y == &y2_);
    }
    std::vector<std::byte> guard(kGuardBytes);
    for (const std::size_t at : {std::size_t{0}, kGuardBytes + y_size}) {
      jit::copy_to_host(guard, y_.as<std::byte>() + at, bench_.stream());
      jit::synchronize(bench_.stream());
      for (const std::byte b : guard)
        SABREWING_CHECK(b == std::byte{0xff}, kInternal, "[check] a guard byte was written ({})",
                        at == 0 ? "before" : "behind");
    }
    const jit::DeviceBuffer count = bench_.upload(std::vector<std::uint32_t>{0});
    jit::LaunchConfig config;
    config.grid = {1024, 1, 1};
    config.block = {256, 1, 1};
    config.stream = bench_.stream();
    jit::launch(bench_.differences_, config, y_.data(), y2_.data(),
                static_cast<long long>((kGuardBytes + y_size + kGuardBytes) / 4), count.data());
    const jit::DeviceBuffer gathered(bench_.device(), expected_.size() * 4);
    config.grid = {static_cast<unsigned>((expected_.size() + 255) / 256), 1, 1};
    jit::launch(bench_.gather_, config, static_cast<void*>(y_.as<std::byte>() + kGuardBytes),
                static_cast<int>(output == DType::kF32), static_cast<long long>(n()), rows_.data(),
                row_count_, static_cast<int>(m), gathered.data());
    std::vector<float> got(expected_.size());
    std::uint32_t differences = 0;
    jit::copy_to_host(std::as_writable_bytes(std::span(got)), gathered.data(), bench_.stream());
    jit::copy_to_host(std::as_writable_bytes(std::span(&differences, 1)), count.data(), bench_.stream());
    jit::synchronize(bench_.stream());
    SABREWING_CHECK(differences == 0, kInternal, "[check] two runs differ in {} words", differences);
    double error = 0, norm = 0;
    std::vector<double> relative;
    relative.reserve(got.size());
    for (std::int64_t t = 0; t < m; ++t) {
      double row_norm = 0;
      for (int i = 0; i < row_count_; ++i)
        row_norm += std::pow(expected_[static_cast<std::size_t>(t * row_count_ + i)], 2);
      const double rms = std::sqrt(row_norm / row_count_);
      norm += row_norm;
      for (int i = 0; i < row_count_; ++i) {
        const auto e = static_cast<std::size_t>(t * row_count_ + i);
        const double d = std::isfinite(got[e]) ? got[e] - expected_[e] : 1e30;
        error += d * d;
        relative.push_back(std::abs(d) / rms);
      }
    }
    const std::size_t at = relative.size() * 999 / 1000;
    std::nth_element(relative.begin(), relative.begin() + static_cast<std::ptrdiff_t>(at), relative.end());
    return {std::sqrt(error / norm), relative[at]};
  }

  double floor_us(std::int64_t m) const {
    const double groups = weight_.format.block.k > 0
                              ? static_cast<double>(k()) / static_cast<double>(weight_.format.block.k)
                              : 1;
    const double bytes =
        static_cast<double>(n()) * (static_cast<double>(k()) * weight_.format.element.bits / 8 +
                                    groups * weight_.format.scale->bits / 8) +
        2.0 * static_cast<double>(m) * static_cast<double>(n() + k());
    const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n()) * static_cast<double>(k());
    return std::max(bytes / kMemoryBytesPerUs, flops / kFlopsPerUs);
  }

 private:
  Bench& bench_;
  RandomWeight weight_;
  WeightLayout layout_;
  PackedHostWeight packed_;
  std::vector<jit::DeviceBuffer> copies_;
  jit::DeviceBuffer x_, values_, scales_, table_, rows_, y_, y2_, reference_;
  std::vector<double> expected_;
  int row_count_ = 0;
  std::size_t y_bytes_ = 0;
};

struct Options {
  std::vector<std::string> formats{"mxfp4", "int4g128"};
  std::vector<std::string> shapes{"4096x4096"};
  std::vector<std::int64_t> m{1, 16, 64, 256};
  std::size_t limit = 8;
  double deadline_s = 500;
  std::string out;
  std::string only;  ///< kernel names, separated by ';'
  bool check_only = false;
  bool profile = false;
  bool no_overlap = false;
  bool exact = false;
  bool race_checkable = false;
  bool float_output = false;
  std::int64_t burst_from = 128;
};

double error_bound(const WeightLayout& layout, bool scale_after, DType output) {
  const bool rounds = layout.pre_scaled && !scale_after;
  if (output == DType::kF32) return rounds ? 1.5e-3 : 1e-5;
  return rounds ? 2.3e-3 : 2.0e-3;
}

int run(const Options& options) {
  const auto begin = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  Bench bench(jit::Device::open());
  const DeviceModel model = DeviceModel::of(bench.device()->info());
  fmt::print("{} {} multiprocessors\n", bench.device()->info().name, model.multiprocessors);
  nlohmann::json rows = nlohmann::json::array();
  const auto save = [&] {
    if (options.out.empty()) return;
    std::ofstream(options.out) << "[\n";
    std::ofstream file(options.out);
    file << "[\n";
    for (std::size_t i = 0; i < rows.size(); ++i)
      file << rows[i].dump() << (i + 1 < rows.size() ? ",\n" : "\n");
    file << "]\n";
  };
  int failures = 0, cells = 0;
  double worst = 0, worst_p999 = 0;
  const DType output = options.float_output ? DType::kF32 : DType::kBF16;
  for (const std::string& shape_text : options.shapes) {
    const auto x = shape_text.find('x');
    const std::int64_t n = std::stoll(shape_text.substr(0, x)), k = std::stoll(shape_text.substr(x + 1));
    for (std::string format : options.formats) {
      if (format == "int4g128" && k % 128 != 0) format = "int4g64";
      if (elapsed() > options.deadline_s) {
        fmt::print("deadline: {} {} not reached\n", shape_text, format);
        continue;
      }
      const std::int64_t max_m = *std::max_element(options.m.begin(), options.m.end());
      Cell cell(bench, format, n, k, max_m, !options.check_only, options.check_only);
      struct Choice {
        std::int64_t m;
        Candidate candidate;
      };
      std::vector<Choice> choices;
      std::vector<jit::KernelSource> sources;
      for (const std::int64_t m : options.m) {
        const GemmProblem problem{
            {cell.layout(), DType::kBF16, output, false, false}, m, n, k, options.exact};
        for (const Candidate& c : candidates(model, problem, options.only.empty() ? options.limit : 100000)) {
          if (!options.only.empty() &&
              (";" + options.only + ";").find(";" + c.shape.to_string() + ";") == std::string::npos)
            continue;
          choices.push_back({m, c});
          KernelFormats formats{cell.layout(), DType::kBF16, output, c.scale_after, options.race_checkable};
          sources.push_back(kernel_source(c.shape, formats, model.architecture));
        }
      }
      const double compile_begin = elapsed();
      std::map<std::string, jit::KernelSource> distinct;
      for (const jit::KernelSource& source : sources) distinct.emplace(source.name, source);
      std::vector<jit::KernelSource> list;
      for (auto& [name, source] : distinct) list.push_back(source);
      bench.compiler().compile_all(list);
      fmt::print("{} {}: {} kernels compiled in {:.1f} s\n", shape_text, format, list.size(),
                 elapsed() - compile_begin);
      std::fflush(stdout);

      for (const std::int64_t m : options.m) {
        if (elapsed() > options.deadline_s) break;
        if (options.profile) {
          // For a profiler: three calls of each kernel, nothing else.
          for (const Choice& choice : choices) {
            if (choice.m != m) continue;
            const KernelFormats formats{cell.layout(), DType::kBF16, output, choice.candidate.scale_after,
                                        options.race_checkable};
            for (int i = 0; i < 3; ++i)
              bench.kernel(choice.candidate.shape, formats)
                  .enqueue(cell.operands(m, static_cast<std::size_t>(i)), bench.stream(), false);
            jit::synchronize(bench.stream());
          }
          continue;
        }
        cell.make_reference(m);
        struct Timed {
          Candidate candidate;
          double us;
        };
        std::vector<Timed> timed;
        for (const Choice& choice : choices) {
          if (choice.m != m) continue;
          const Candidate& c = choice.candidate;
          const KernelFormats formats{cell.layout(), DType::kBF16, output, c.scale_after,
                                      options.race_checkable};
          const std::string name = fmt::format("{}{}", c.shape.to_string(), c.scale_after ? " after" : "");
          ++cells;
          Errors errors;
          double us = 0;
          try {
            const GemmKernel& kernel = bench.kernel(c.shape, formats);
            if (kernel.attributes().local_bytes > 0) fmt::print("  {} spills\n", name);
            if (const Feasibility feasible = kernel.can_run(cell.operands(m, 0)); !feasible)
              fail(ErrorCode::kInternal, "{}", feasible.reason);
            errors = cell.check(kernel, m, output, !options.no_overlap);
            worst = std::max(worst, errors.frobenius);
            worst_p999 = std::max(worst_p999, errors.p999);
            if (!(errors.frobenius <= error_bound(cell.layout(), c.scale_after, output)) ||
                (m * n >= kEnoughOutputs && !(errors.p999 <= 0.01)))
              fail(ErrorCode::kInternal, "error {:.2e}, p99.9 {:.2e}", errors.frobenius, errors.p999);
            if (options.check_only) continue;
            us = bench.time(
                [&](int i) {
                  kernel.enqueue(cell.operands(m, static_cast<std::size_t>(i)), bench.stream(),
                                 !options.no_overlap);
                },
                std::max(2.0, cell.floor_us(m)), false);
          } catch (const Error& error) {
            ++failures;
            fmt::print("  FAIL {} {} m={} {}: {}\n", shape_text, format, m, name, error.what());
            std::fflush(stdout);
            if (error.code() == ErrorCode::kDevice) {
              save();
              return 1;
            }
            continue;
          }
          timed.push_back({c, us});
          rows.push_back({{"n", n},
                          {"k", k},
                          {"m", m},
                          {"weights", format},
                          {"activations", "bf16"},
                          {"impl", "sabrewing"},
                          {"kernel", name},
                          {"us", us},
                          {"floor_us", cell.floor_us(m)},
                          {"predicted_us", c.predicted_us},
                          {"error", errors.frobenius},
                          {"overlap", !options.no_overlap},
                          {"best", false}});
        }
        if (timed.empty()) continue;
        const auto first = std::min_element(timed.begin(), timed.end(), [](const Timed& a, const Timed& b) {
          return a.candidate.predicted_us < b.candidate.predicted_us;
        });
        const double first_us = first->us;
        const std::string first_name = first->candidate.shape.to_string();
        std::sort(timed.begin(), timed.end(), [](const Timed& a, const Timed& b) { return a.us < b.us; });
        const Candidate& best = timed[0].candidate;
        const GemmKernel& kernel = bench.kernel(
            best.shape, {cell.layout(), DType::kBF16, output, best.scale_after, options.race_checkable});
        const auto time_best = [&](bool overlap) {
          return bench.time(
              [&](int i) {
                kernel.enqueue(cell.operands(m, static_cast<std::size_t>(i)), bench.stream(), overlap);
              },
              timed[0].us, m >= options.burst_from);
        };
        const double plain = time_best(false);
        const double final_us = options.no_overlap ? plain : time_best(true);
        rows.push_back({{"n", n},
                        {"k", k},
                        {"m", m},
                        {"weights", format},
                        {"activations", "bf16"},
                        {"impl", "sabrewing"},
                        {"kernel", best.shape.to_string()},
                        {"us", final_us},
                        {"us_serial", plain},
                        {"us_first_choice", first_us},
                        {"first_choice", first_name},
                        {"floor_us", cell.floor_us(m)},
                        {"best", true}});
        std::string others;
        for (std::size_t i = 1; i < std::min<std::size_t>(4, timed.size()); ++i)
          others += fmt::format(" | {} {:.1f}", timed[i].candidate.shape.to_string(), timed[i].us);
        fmt::print(
            "{:>11} {:8} m={:<5} {:8.2f} us (serial {:.2f}, model's choice {:.2f}) floor {:.2f} = {:.2f}  {} "
            "p{:.1f}{}\n",
            shape_text, format, m, final_us, plain, first_us, cell.floor_us(m), cell.floor_us(m) / final_us,
            best.shape.to_string(), best.predicted_us, others);
        std::fflush(stdout);
        save();
      }
    }
  }
  fmt::print("{} cells, {} failures, worst error {:.2e}, worst p99.9 {:.2e}, {:.0f} s, {} kernels compiled\n",
             cells, failures, worst, worst_p999, elapsed(), bench.compiler().counters().compiled);
  save();
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace sabrewing::kernels::cuda

int main(int argc, char** argv) {
  sabrewing::kernels::cuda::Options options;
  CLI::App app("Checks and times the CUDA GEMM kernels");
  app.add_option("--formats", options.formats)->delimiter(',');
  app.add_option("--shapes", options.shapes, "NxK")->delimiter(',');
  app.add_option("--m", options.m)->delimiter(',');
  app.add_option("--limit", options.limit, "Candidates per size");
  app.add_option("--deadline", options.deadline_s, "Seconds");
  app.add_option("--out", options.out, "JSON file");
  app.add_option("--burst-from", options.burst_from);
  app.add_option("--only", options.only, "Kernel names, separated by ';'");
  app.add_flag("--profile", options.profile);
  app.add_flag("--check-only", options.check_only);
  app.add_flag("--no-overlap", options.no_overlap);
  app.add_flag("--exact", options.exact);
  app.add_flag("--race-checkable", options.race_checkable, "For compute-sanitizer --tool racecheck");
  app.add_flag("--float-output", options.float_output);
  CLI11_PARSE(app, argc, argv);
  try {
    return sabrewing::kernels::cuda::run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
