#pragma once

#include <cstdint>

#include "core/error.h"
#include "formats/scheme/weight_format.h"

namespace sabrewing::kernels::cuda {

/// What the matrix instruction reads as the weight.
enum class Operand : std::uint8_t { kBF16, kFP16, kE4M3, kE5M2, kInt8 };

constexpr int operand_bytes(Operand operand) {
  return operand == Operand::kBF16 || operand == Operand::kFP16 ? 2 : 1;
}

struct OperandChoice {
  Feasibility feasible;
  Operand operand = Operand::kBF16;
};

/// The operand type that holds every value of the weight's elements exactly, up to one power of two, beside
/// these activations; or the rule that forbids it and activations that would do. FP8 activations of either
/// kind take E4M3 weights, and E5M2 ones as they are; INT4 and FP4 activations are multiplied as INT8.
OperandChoice weight_operand(const formats::WeightFormat& weight,
                             const formats::ActivationFormat& activation);

}  // namespace sabrewing::kernels::cuda
