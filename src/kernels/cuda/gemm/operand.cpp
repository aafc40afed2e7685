#include "kernels/cuda/gemm/operand.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

namespace sabrewing::kernels::cuda {

namespace {

using formats::ActivationFormat;
using formats::ElementType;
using formats::WeightFormat;
using formats::ZeroPoint;
using Granularity = ActivationFormat::Granularity;

/// Widest integers that an operand holds: signed around zero, and with a zero point of the same width (which
/// unsigned ones are, with zero point 0).
struct IntegerRule {
  int symmetric;
  int zero_point;
};

constexpr IntegerRule integer_rule(Operand operand) {
  switch (operand) {
    case Operand::kE4M3:
      return {5, 4};  // integers up to 16
    case Operand::kE5M2:
      return {0, 0};  // not chosen for integers
    case Operand::kInt8:
      return {8, 7};
    default:
      return {8, 8};  // eight significant bits
  }
}

bool holds_minifloat(Operand operand, ElementType type) {
  switch (operand) {
    case Operand::kBF16:
      return true;
    case Operand::kFP16:  // its largest exponent is infinity
      return type.exponent <= 4 || type == formats::kE5M2;
    case Operand::kE4M3:
      return type.exponent <= 4 && type.mantissa <= 3;
    case Operand::kE5M2:
      return type == formats::kE5M2;
    case Operand::kInt8:
      return type == formats::kE2M1;
  }
  return false;
}

bool holds(Operand operand, const WeightFormat& weight) {
  if (!weight.element.is_integer()) return holds_minifloat(operand, weight.element);
  const IntegerRule rule = integer_rule(operand);
  const bool symmetric =
      weight.element.kind == ElementType::Kind::kInt && weight.zero_point != ZeroPoint::kInteger;
  return weight.element.bits <= (symmetric ? rule.symmetric : rule.zero_point);
}

const char* minifloat_rule(Operand operand) {
  if (operand == Operand::kFP16) return "minifloats of up to 4 exponent bits, and E5M2";
  if (operand == Operand::kInt8) return "E2M1 as the only minifloat";
  return "minifloats of up to 4 exponent and 3 mantissa bits, and E5M2";
}

/// "BF16 or INT8": other activations that hold the weight.
std::string alternatives(const WeightFormat& weight) {
  std::string text = "BF16";
  if (weight.zero_point != ZeroPoint::kFloat && holds(Operand::kInt8, weight)) text += " or INT8";
  return text;
}

Feasibility check_activation(const ActivationFormat& activation) {
  const std::string name = formats::to_string(activation);
  const bool wide = activation.element == formats::kBF16 || activation.element == formats::kFP16;
  if (wide) {
    if (activation.granularity == Granularity::kNone) return Feasibility::yes();
    return Feasibility::no(fmt::format("{} activations: 16-bit activations take no scales", name));
  }
  const std::array<ElementType, 5> elements{formats::kE4M3, formats::kE5M2, ElementType::integer(8),
                                            ElementType::integer(4), formats::kE2M1};
  if (std::find(elements.begin(), elements.end(), activation.element) == elements.end())
    return Feasibility::no(
        fmt::format("{} activations: CUDA kernels take bf16, fp16, float8e4m3, float8e5m2, int8, int4 and "
                    "float4e2m1",
                    name));
  if (activation.granularity == Granularity::kNone)
    return Feasibility::no(fmt::format("{} activations need scales per token, group or tensor", name));
  if (activation.granularity == Granularity::kGroup && activation.group != 32 && activation.group != 64 &&
      activation.group != 128)
    return Feasibility::no(fmt::format("{} activations: groups of 32, 64 or 128 columns", name));
  if (activation.scale != formats::kFP32 &&
      !(activation.scale == formats::kE8M0 && activation.granularity == Granularity::kGroup))
    return Feasibility::no(fmt::format("{} activations: scales are FP32, or E8M0 in groups", name));
  return Feasibility::yes();
}

Feasibility check_weight(const WeightFormat& weight, int step) {
  const std::string name = formats::to_string(weight);
  if (!weight.element.is_valid() || weight.element.bits > 8 ||
      (!weight.element.is_integer() && weight.element.kind != ElementType::Kind::kMinifloat))
    return Feasibility::no(
        fmt::format("{}: CUDA kernels pack integers of 1 to 8 bits and minifloats of 3 to 8", name));
  if (!weight.scale) return Feasibility::no(fmt::format("{}: CUDA kernels need a scale of the weight", name));
  const std::array<ElementType, 5> scales{formats::kFP32, formats::kFP16, formats::kBF16, formats::kE4M3,
                                          formats::kE8M0};
  if (std::find(scales.begin(), scales.end(), *weight.scale) == scales.end())
    return Feasibility::no(fmt::format("{}: scales are FP32, FP16, BF16, E4M3 or E8M0", name));
  if (weight.block.n < 0 || weight.block.k < 0 || weight.block.k % step != 0)
    return Feasibility::no(fmt::format(
        "{}: groups of a multiple of {} columns are needed beside these activations", name, step));
  if (weight.zero_point != ZeroPoint::kNone && !weight.element.is_integer())
    return Feasibility::no(fmt::format("{}: zero points are for integers", name));
  if (weight.zero_point == ZeroPoint::kInteger && weight.element.kind != ElementType::Kind::kUInt)
    return Feasibility::no(fmt::format("{}: integer zero points are for unsigned elements", name));
  return Feasibility::yes();
}

}  // namespace

OperandChoice weight_operand(const WeightFormat& weight, const ActivationFormat& activation) {
  if (Feasibility feasible = check_activation(activation); !feasible) return {std::move(feasible)};
  const ElementType type = activation.element;
  OperandChoice choice;
  std::string name;
  if (type == formats::kBF16 || type == formats::kFP16) {
    choice.operand = type == formats::kBF16 ? Operand::kBF16 : Operand::kFP16;
    name = type == formats::kBF16 ? "BF16" : "FP16";
  } else if (type == formats::kE4M3 || type == formats::kE5M2) {
    choice.operand = weight.element == formats::kE5M2 ? Operand::kE5M2 : Operand::kE4M3;
    name = type == formats::kE4M3 ? "E4M3" : "E5M2";
  } else {
    choice.operand = Operand::kInt8;
    name = type == formats::kE2M1 ? "FP4" : fmt::format("INT{}", type.bits);
  }
  const int bytes = operand_bytes(choice.operand);
  choice.feasible = check_weight(weight, 32 / bytes);
  if (!choice.feasible) return choice;
  if (weight.zero_point == ZeroPoint::kFloat && bytes == 1) {
    choice.feasible = Feasibility::no(
        fmt::format("{} activations take no float zero points: use BF16 or FP16 activations", name));
  } else if (weight.zero_point == ZeroPoint::kFloat && *weight.scale != activation.element &&
             *weight.scale != formats::kE4M3) {
    choice.feasible = Feasibility::no(fmt::format(
        "{} activations: float zero points need scales of the activations' type or E4M3; these are {}", name,
        formats::to_string(*weight.scale)));
  } else if (!holds(choice.operand, weight)) {
    if (weight.element.is_integer()) {
      const bool has_zero = weight.zero_point == ZeroPoint::kInteger;
      const bool is_signed = weight.element.kind == ElementType::Kind::kInt;
      const IntegerRule rule = integer_rule(choice.operand);
      choice.feasible = Feasibility::no(fmt::format(
          "{} activations hold {}integer weights up to {} bits{}; this has {}: use {} activations", name,
          !has_zero && !is_signed ? "unsigned " : "",
          has_zero || !is_signed ? rule.zero_point : rule.symmetric, has_zero ? " with a zero point" : "",
          weight.element.bits, alternatives(weight)));
    } else {
      choice.feasible =
          Feasibility::no(fmt::format("{} activations hold {}; this is {}: use BF16 activations", name,
                                      minifloat_rule(choice.operand), formats::to_string(weight.element)));
    }
  }
  return choice;
}

}  // namespace sabrewing::kernels::cuda
