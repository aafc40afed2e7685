#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/backend/kernel_unit.h"
#include "kernels/moe.h"

namespace sabrewing::kernels::cuda {

/// `matrix` as messages name it, with its type and shape. Throws `Error{kInvalidArgument}`, and
/// `Error{kUnsupported}` for the type.
void check_matrix(const char* operation, const char* operand, const Matrix& matrix, DType dtype,
                  std::int64_t rows, std::int64_t cols);

/// The operations of backend.h that are not matrix products, on device memory. Activations and the cache have
/// the context's activation type; norms also read FP32. A row's result depends on that row alone. Indices in
/// device memory (ids, rows, positions, block tables) are checked where they are used: a bad one makes the
/// launch fault.
class Ops {
 public:
  Ops(Context& context, const KernelUnit& unit);

  void rms_norm(Matrix x, const float* weight, std::int64_t weight_size, float epsilon, Matrix out) const;
  void add(Matrix residual, Matrix x) const;
  void glu(const GluArgs& args) const;
  void rope(const RopeArgs& args, const Batch& batch) const;
  /// At most 2048 experts and 32 choices.
  void route(const RouterArgs& args) const;
  void gather_rows(Matrix x, const std::int32_t* rows, Matrix out) const;
  /// Heads of at most 256 values. Needs no workspace.
  void attention(const AttentionArgs& args, const Batch& batch) const;

 private:
  Context& context_;
  jit::Kernel norm_activation_;
  jit::Kernel norm_float_;
  jit::Kernel add_;
  jit::Kernel glu_;
  jit::Kernel rope_;
  jit::Kernel gather_activation_;
  jit::Kernel gather_float_;
  jit::Kernel write_cache_;
  jit::Kernel attend_;
  jit::Kernel route_;
};

}  // namespace sabrewing::kernels::cuda
