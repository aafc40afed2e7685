#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "jit/device.h"
#include "jit/module.h"
#include "jit/nvrtc_compiler.h"
#include "kernels/cuda/bench/random_weight.h"
#include "kernels/cuda/gemm/gemm_kernel.h"
#include "kernels/cuda/gemm/gemm_plan.h"

namespace sabrewing::kernels::cuda {

/// Bytes before and after an output that no kernel may write.
inline constexpr std::size_t kGuardBytes = 4096;
/// Bytes of device memory that one H200 was seen to read in a microsecond.
inline constexpr double kMemoryBytesPerUs = 4.28e6;

/// How carefully a call is timed.
enum class Timing : std::uint8_t {
  kQuick,   ///< three replays: enough to tell which candidates are worth more
  kSteady,  ///< twenty, in two rows
  kBurst,   ///< the card rests for 50 ms before each burst of five replays, so that long kernels are not read
            ///< at the clocks that earlier ones left behind
};

/// A device with what timing and checking need: a stream, a compiler, small kernels.
class BenchDevice {
 public:
  BenchDevice(jit::DevicePtr device, std::shared_ptr<jit::Compiler> compiler);

  const jit::DevicePtr& device() const { return device_; }
  jit::Compiler& compiler() { return *compiler_; }
  const std::shared_ptr<jit::Compiler>& shared_compiler() const { return compiler_; }
  jit::StreamHandle stream() const { return stream_; }

  /// Complete when it returns.
  jit::DeviceBuffer upload(std::span<const std::byte> bytes);

  /// Median microseconds of a call inside a CUDA graph of several; `enqueue(i)` puts call i on the stream.
  double time(const std::function<void(int)>& enqueue, double estimate_us, Timing timing);

 private:
  friend class GemmCell;

  jit::DevicePtr device_;
  jit::Stream stream_;
  std::shared_ptr<jit::Compiler> compiler_;
  std::unique_ptr<jit::Module> tools_;
  jit::Kernel spin_, reference_, gather_, differences_;
};

struct GemmErrors {
  double frobenius = 0;  ///< relative, against float64
  double p999 = 0;       ///< 99.9th percentile of |error| over the root mean square of the reference's token
  /// The same of the reference rounded to the output's type: no kernel can have less, and of few outputs it
  /// can be more than the bound.
  double least_frobenius = 0;
  double least_p999 = 0;

  bool within(double bound) const { return frobenius <= bound || frobenius <= 1.02 * least_frobenius; }
  /// 1 % where rounding allows it.
  bool tails_within_bound() const { return p999 <= 0.01 || p999 <= 1.02 * least_p999; }
};

/// Errors of `m` rows of outputs, all as long, of type `type`. An output that is not finite counts as 1e30
/// off.
GemmErrors gemm_errors(std::span<const float> got, std::span<const double> expected, std::int64_t m,
                       formats::ElementType type);

/// The largest relative Frobenius error that a kernel may have.
double error_bound(const WeightLayout& layout, bool scale_after, DType output);

/// A random weight of a problem on the device, with copies to rotate through, and activations.
class GemmCell {
 public:
  /// With `rotate` there are so many copies that they exceed four L2 caches. With `all_rows` every output is
  /// checked, else some hundreds of rows.
  GemmCell(BenchDevice& bench, const GemmDesc& desc, std::int64_t max_m, bool rotate, bool all_rows);

  const WeightLayout& layout() const { return layout_; }
  std::int64_t n() const { return weight_.n; }
  std::int64_t k() const { return weight_.k; }

  /// Operands of call `copy` with `m` rows, for a kernel and for a plan.
  GemmOperands operands(std::int64_t m, std::size_t copy) const { return operands(m, copy, y_); }
  GemmArgs args(const CudaGemmPlan& plan, const PackedWeight& weight, std::int64_t m) const;
  /// A packed weight for each copy.
  std::vector<PackedWeight> packed(const CudaGemmPlan& plan) const;

  /// Computes what `check` compares with.
  void make_reference(std::int64_t m);
  /// Runs `enqueue(y)` twice into poisoned memory. Throws when a guard changed or the runs differ.
  GemmErrors check(const std::function<void(void* y, bool second)>& enqueue, std::int64_t m, DType output);
  GemmErrors check(const GemmKernel& kernel, std::int64_t m, DType output, bool overlap);

  /// The time that memory and arithmetic of an H200 need at least, microseconds.
  double floor_us(std::int64_t m) const;

 private:
  GemmOperands operands(std::int64_t m, std::size_t copy, const jit::DeviceBuffer& y) const;

  BenchDevice& bench_;
  formats::ActivationFormat activation_;
  RandomWeight weight_;
  WeightLayout layout_;
  PackedHostWeight packed_;
  std::vector<jit::DeviceBuffer> copies_;
  // Scales of the activations are read as those of M tokens, whatever M is.
  jit::DeviceBuffer x_, x_scales_, x_scale_values_, x_table_, values_, scales_, table_, rows_, y_, y2_,
      reference_;
  std::vector<double> expected_;
  int row_count_ = 0;
  int x_bytes_ = 2;
  std::int64_t x_group_ = 0;
};

}  // namespace sabrewing::kernels::cuda
