#pragma once

#include <cstdint>

#include "formats/scheme/weight_format.h"
#include "kernels/matrix.h"

namespace sabrewing::kernels {

/// Activations for a GEMM whose plan takes `format`: codes and scales as `formats::quantize_row` defines
/// them, stored as `GemmArgs` reads them.
struct QuantizeDesc {
  formats::ActivationFormat format;
  DType input = DType::kBF16;  ///< BF16 or F16
  std::int64_t k = 0;
};

/// Operands of one call. M = x.rows; M = 0 is ordinary.
struct QuantizeArgs {
  Matrix x;  ///< (M, K)
  /// (M, K): F8E4M3, F8E5M2, or I8. INT4 and FP4 numbers are the integers that they are multiplied as: INT4
  /// ones themselves, FP4 ones doubled.
  Matrix codes;
  /// Per token FP32 (M); of groups FP32 or E8M0 (ceil(K / group), M). Of FP4 half of the scale, so that a
  /// code times its scale is the number in every format.
  void* scales = nullptr;
};

}  // namespace sabrewing::kernels
