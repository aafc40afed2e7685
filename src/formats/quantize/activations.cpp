#include "formats/quantize/activations.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/numeric/element_type.h"

namespace sabrewing::formats {
namespace {

using Granularity = ActivationFormat::Granularity;

/// The smallest power of two that is at least `value`, which is positive.
float power_of_two_from(float value) {
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);
  return std::ldexp(1.0f, std::clamp(fraction == 0.5f ? exponent - 1 : exponent, -126, 127));
}

float group_scale(const ActivationFormat& format, std::span<const float> group) {
  float largest = 0;
  for (const float x : group) {
    if (!std::isfinite(x)) return std::numeric_limits<float>::quiet_NaN();
    largest = std::max(largest, std::fabs(x));
  }
  if (largest == 0) return 1;
  const float scale = std::max(largest / max_value(format.element), std::numeric_limits<float>::min());
  return format.scale == kE8M0 ? power_of_two_from(scale) : scale;
}

}  // namespace

Feasibility can_quantize(const ActivationFormat& format) {
  const ElementType type = format.element;
  if (type != kE4M3 && type != kE5M2 && type != kE2M1 && type != ElementType::integer(8) &&
      type != ElementType::integer(4))
    return Feasibility::no(
        fmt::format("{} activations: FP8, INT8, INT4 and FP4 are made", to_string(format)));
  const bool grouped = format.granularity == Granularity::kGroup;
  if (!grouped && format.granularity != Granularity::kToken)
    return Feasibility::no(
        fmt::format("{} activations: scales are made per token or group", to_string(format)));
  if (grouped && format.group < 1)
    return Feasibility::no(fmt::format("{} activations: no valid group", to_string(format)));
  if (format.scale != kFP32 && !(grouped && format.scale == kE8M0))
    return Feasibility::no(
        fmt::format("{} activations: scales are FP32, or E8M0 in groups", to_string(format)));
  return Feasibility::yes();
}

void quantize_row(const ActivationFormat& format, std::span<const float> row, std::span<std::uint8_t> codes,
                  std::span<float> scales) {
  const Feasibility feasible = can_quantize(format);
  SABREWING_CHECK(feasible, kUnsupported, "[quantize] {}", feasible.reason);
  const std::size_t group =
      format.granularity == Granularity::kGroup ? static_cast<std::size_t>(format.group) : row.size();
  const std::size_t groups = row.empty() ? 0 : (row.size() + group - 1) / group;
  SABREWING_CHECK(codes.size() == row.size() && scales.size() == groups, kInvalidArgument,
                  "[quantize] {} codes and {} scales for {} numbers in {} groups", codes.size(),
                  scales.size(), row.size(), groups);
  const float top = max_value(format.element);
  for (std::size_t g = 0; g < groups; ++g) {
    const std::size_t first = g * group, count = std::min(group, row.size() - first);
    const float scale = group_scale(format, row.subspan(first, count));
    scales[g] = scale;
    for (std::size_t i = first; i < first + count; ++i) {
      const float x = std::isnan(scale) ? 0.0f : std::clamp(row[i] / scale, -top, top);
      codes[i] = static_cast<std::uint8_t>(encode(format.element, x));
    }
  }
}

}  // namespace sabrewing::formats
