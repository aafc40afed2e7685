#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/error.h"
#include "formats/scheme/weight_format.h"

namespace sabrewing::formats {

/// The stored parts of a weight matrix (N, K), row-major.
struct WeightBytes {
  /// Rows of K elements: 16- and 32-bit ones little-endian, others a dense bit stream (bit_stream.h) that
  /// starts on a byte in each row.
  std::span<const std::byte> data;
  /// Scales of the blocks, row-major in the grid of `WeightFormat::scale_grid`.
  std::span<const std::byte> scales;
  float second_scale = 1;
};

/// Whether `dequantize_rows` takes the format: all without zero points whose scale type has whole bytes.
Feasibility can_dequantize(const WeightFormat& format);

/// Writes the values of rows [first_row, first_row + rows) as FP32 to `out` (rows, k). Each is
/// decode(element) * scale * second_scale, exact for plain formats and for power-of-two scales (within the
/// range of FP32), else rounded once per product. This is the definition that kernels are tested against.
/// Throws `Error{kInvalidArgument}` when the spans do not hold these rows, `Error{kUnsupported}` when
/// `can_dequantize` says no.
void dequantize_rows(const WeightFormat& format, const WeightBytes& weight, std::int64_t k,
                     std::int64_t first_row, std::int64_t rows, std::span<float> out);

}  // namespace sabrewing::formats
