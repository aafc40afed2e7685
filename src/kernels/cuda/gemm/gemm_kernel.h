#pragma once

#include "jit/launch.h"
#include "jit/nvrtc_compiler.h"
#include "kernels/cuda/gemm/kernel_shape.h"
#include "kernels/gemm.h"

namespace sabrewing::kernels::cuda {

/// The parameter of every GEMM kernel; device/gemm.cuh has the same structure.
struct GemmParams {
  const void* weight = nullptr;
  const float* channel_scale = nullptr;
  const float* bias = nullptr;
  const void* x = nullptr;
  void* y = nullptr;
  std::int64_t x_stride = 0;
  std::int64_t y_stride = 0;
  std::int32_t m = 0;
  std::int32_t n = 0;
  std::int32_t k = 0;
  std::int32_t slabs = 0;
  std::int32_t row_blocks = 0;
  std::int32_t token_tiles = 0;
  std::int32_t feature_tiles = 0;
  std::int32_t token_group = 1;
  std::int32_t aligned = 0;
  std::int32_t stream_weights = 0;
  std::int32_t x_scale_stride = 0;
  const void* x_scale = nullptr;
  std::int32_t box_bytes = 0;
};

/// Operands on the device, already checked against the packed weight.
struct GemmOperands {
  const void* weight = nullptr;  ///< packed bytes
  PackedShape shape;
  bool has_factors = false;
  const float* bias = nullptr;
  const void* x = nullptr;
  std::int64_t x_stride = 0;  ///< elements
  /// Of quantized activations: FP32 (M), or FP32 or E8M0 (K / group, x_scale_stride).
  const void* x_scale = nullptr;
  std::int64_t x_scale_stride = 0;
  void* y = nullptr;
  std::int64_t y_stride = 0;
  std::int64_t m = 0;
  /// Token tiles whose blocks run side by side and so share their weights in the L2 cache.
  int token_group = 4;
};

/// One loaded kernel.
class GemmKernel {
 public:
  GemmKernel(const jit::DevicePtr& device, jit::Compiler& compiler, const KernelShape& shape,
             KernelFormats formats);

  const KernelShape& shape() const { return shape_; }
  const jit::KernelAttributes& attributes() const { return kernel_.attributes(); }
  int multiprocessors() const { return multiprocessors_; }

  /// Whether the operands suit the kernel: alignment of the activations, K per cluster rank, memory.
  Feasibility can_run(const GemmOperands& operands) const;

  /// Allocates nothing and does not synchronise. With `overlap` the launch may begin before the kernel in
  /// front of it has finished; the packed weight must then have been complete before that kernel.
  void enqueue(const GemmOperands& operands, jit::StreamHandle stream, bool overlap) const;

 private:
  jit::Kernel kernel_;
  KernelShape shape_;
  KernelFormats formats_;
  int multiprocessors_ = 0;
  int max_shared_bytes_ = 0;
};

}  // namespace sabrewing::kernels::cuda
