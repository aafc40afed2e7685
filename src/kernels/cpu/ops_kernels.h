#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_tile.h"

namespace sabrewing::kernels::cpu {

enum class CpuTier : std::uint8_t;

/// The single-threaded inner loops of one tier, FP32. A result depends on nothing but the operands: not on
/// alignment, nor on what is computed beside it.
struct OpsKernels {
  /// out = x * rsqrt(mean(x^2) + epsilon) * weight over n values; out may be x.
  void (*rms_norm)(const float* x, const float* weight, std::int64_t n, float epsilon, float* out);
  /// residual += x
  void (*add)(float* residual, const float* x, std::int64_t n);
  /// out = silu(gate) * up; out may be either operand.
  void (*silu_glu)(const float* gate, const float* up, std::int64_t n, float* out);
  /// out = g * sigmoid(1.702 g) * (clamp(up, -limit, limit) + 1) with g = min(gate, limit).
  void (*clamped_swiglu)(const float* gate, const float* up, std::int64_t n, float limit, float* out);
  /// (x[i], x[half + i]) = (x[i] cos[i] - x[half + i] sin[i], x[half + i] cos[i] + x[i] sin[i])
  void (*rotate)(float* x, const float* cos, const float* sin, std::int64_t half);
  /// out = exp(x - maximum); returns the sum.
  float (*exponentials)(const float* x, std::int64_t n, float maximum, float* out);
  /// Rounds to bfloat16: nearest, ties to even; NaN stays NaN.
  void (*to_bf16)(const float* x, std::int64_t n, std::uint16_t* out);
  void (*attend)(const AttentionTile& tile);
};

extern const OpsKernels kOpsScalar;
#if defined(__x86_64__)
extern const OpsKernels kOpsAvx2;
extern const OpsKernels kOpsAvx512;
#endif

/// The loops of a tier that this processor has.
const OpsKernels& ops_kernels(CpuTier tier);

}  // namespace sabrewing::kernels::cpu
