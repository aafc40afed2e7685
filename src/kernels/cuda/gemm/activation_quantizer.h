#pragma once

#include "jit/launch.h"
#include "jit/nvrtc_compiler.h"
#include "kernels/quantize.h"

namespace sabrewing::kernels::cuda {

/// The translation unit with the kernels `quantize_few`, `quantize_some` and `quantize_many` of a format and
/// input, for so many rows.
jit::KernelSource quantizer_source(const formats::ActivationFormat& format, DType input,
                                   jit::Architecture architecture);

/// Quantizes activations on a GPU: FP8, INT8, INT4 and FP4 per token or in groups of 32, 64 or 128 columns.
class ActivationQuantizer {
 public:
  /// K is a multiple of 8.
  static Feasibility can_implement(const QuantizeDesc& desc, jit::Architecture architecture);

  /// Throws `Error{kUnsupported}` with the reason of `can_implement`, and as `jit::Compiler::compile` does.
  ActivationQuantizer(const jit::DevicePtr& device, jit::Compiler& compiler, const QuantizeDesc& desc);

  const QuantizeDesc& desc() const { return desc_; }
  DType codes_dtype() const;
  std::size_t scale_bytes(std::int64_t m) const;

  /// Rows of `x` begin at multiples of 16 bytes, rows of codes at multiples of 8. Allocates nothing and does
  /// not synchronise; `overlap` as in `GemmKernel::enqueue`. Throws `Error{kInvalidArgument}`.
  void enqueue(const QuantizeArgs& args, jit::StreamHandle stream, bool overlap) const;

 private:
  QuantizeDesc desc_;
  jit::Kernel few_;
  jit::Kernel some_;
  jit::Kernel many_;
  int multiprocessors_ = 0;
};

}  // namespace sabrewing::kernels::cuda
