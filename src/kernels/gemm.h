#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/error.h"
#include "formats/scheme/weight_format.h"
#include "kernels/matrix.h"
#include "kernels/weight.h"

namespace sabrewing::kernels {

/// How exact a computation must be.
enum class Accuracy {
  kExact,    ///< FP32 arithmetic on dequantized weights, no rounding below FP32
  kHigh,     ///< scales applied in FP32 after the inner product
  kDefault,  ///< the fastest kernel whose stated error bound holds
};

/// c[M, N] = a[M, K] * dequantize(b)[N, K]^T (+ bias[N]). M tokens, N output features, K reduction.
struct GemmDesc {
  formats::WeightFormat weight;
  formats::ActivationFormat activation;  ///< what the inner product sees
  DType output = DType::kBF16;
  std::int64_t n = 0;
  std::int64_t k = 0;
  bool bias = false;
  Accuracy accuracy = Accuracy::kDefault;
};

/// An immutable decision for a GemmDesc: it knows its kernel for every M, its workspace and its module.
class GemmPlan {
 public:
  virtual ~GemmPlan() = default;
  const GemmDesc& desc() const { return desc_; }
  /// Bytes of scratch that `enqueue` needs for up to `max_m` rows.
  virtual std::size_t workspace_bytes(std::int64_t max_m) const = 0;
  /// One line: kernel name, and what matters of its numbers ("int8 g32 activations", "pre_scaled").
  virtual std::string kernel_name() const = 0;
  /// Tile, stages, waves and why others were rejected, for people.
  virtual std::string explain() const = 0;

 protected:
  explicit GemmPlan(const GemmDesc& desc) : desc_(desc) {}

 private:
  GemmDesc desc_;
};

using GemmPlanPtr = std::shared_ptr<const GemmPlan>;

/// Operands of one call. M = a.rows = c.rows; M = 0 is ordinary.
struct GemmArgs {
  Matrix a;                         ///< (M, K)
  const void* a_scales = nullptr;   ///< of quantized activations: (M), or (K / group, M) for groups
  const PackedWeight* b = nullptr;  ///< (N, K)
  const float* bias = nullptr;      ///< (N), or null when desc.bias is false
  Matrix c;                         ///< (M, N)
  void* workspace = nullptr;
};

}  // namespace sabrewing::kernels
