#pragma once

#include <cstdint>
#include <span>

#include "core/error.h"
#include "formats/scheme/weight_format.h"

namespace sabrewing::formats {

/// Whether `quantize_row` makes the format: FP8 (E4M3, E5M2), INT8, INT4 or FP4 (E2M1) per token or group,
/// with FP32 scales or, in groups, E8M0 ones.
Feasibility can_quantize(const ActivationFormat& format);

/// Codes of one row and its scales, one per group (per token: one). A group's scale is its largest magnitude
/// over the largest value of the element, in FP32 and at least 2^-126, or the smallest power of two not below
/// that (E8M0: nothing saturates); the codes are the nearest to x / scale, ties to even, -128 and -8 unused.
/// A group of zeros has scale 1. A group with a NaN or an infinity has a NaN scale and codes of zero, so that
/// whatever is computed from it is NaN. The last group may be short.
/// Throws `Error{kUnsupported}` with the reason of `can_quantize`, `Error{kInvalidArgument}` for spans that
/// do not fit.
void quantize_row(const ActivationFormat& format, std::span<const float> row, std::span<std::uint8_t> codes,
                  std::span<float> scales);

}  // namespace sabrewing::formats
