#include "formats/numeric/dequantize.h"

#include <bit>
#include <vector>

#include "core/error.h"
#include "formats/numeric/bit_stream.h"
#include "formats/numeric/element_type.h"
#include "formats/numeric/float16.h"

namespace sabrewing::formats {
namespace {

/// Decodes a row of little-endian elements or of a dense bit stream.
class RowDecoder {
 public:
  explicit RowDecoder(ElementType type) : type_(type) {
    if (type.bits <= 8) table_ = decode_table(type);
  }

  std::size_t row_bytes(std::size_t count) const {
    return table_.empty() ? count * type_.bits / 8 : packed_bytes(count, type_.bits);
  }

  void decode_row(std::span<const std::byte> row, std::span<float> out) {
    if (table_.empty()) {
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = wide(row, i);
      return;
    }
    codes_.resize(out.size());
    unpack_codes(row, type_.bits, 0, codes_);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = table_[codes_[i]];
  }

 private:
  float wide(std::span<const std::byte> row, std::size_t index) const {
    const std::size_t size = type_.bits / 8u;
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < size; ++i)
      bits |= std::to_integer<std::uint32_t>(row[index * size + i]) << (8 * i);
    if (type_ == kFP32) return std::bit_cast<float>(bits);
    const auto half = static_cast<std::uint16_t>(bits);
    return type_ == kBF16 ? bf16_to_float(half) : fp16_to_float(half);
  }

  ElementType type_;
  std::vector<float> table_;  // of types up to 8 bits
  std::vector<std::uint8_t> codes_;
};

}  // namespace

Feasibility can_dequantize(const WeightFormat& format) {
  if (!format.element.is_valid()) return Feasibility::no("the element type is not valid");
  if (format.zero_point != ZeroPoint::kNone) return Feasibility::no("zero points are not supported");
  if (format.scale && (!format.scale->is_valid() || format.scale->bits % 8 != 0))
    return Feasibility::no("the scale type does not fill bytes");
  return Feasibility::yes();
}

void dequantize_rows(const WeightFormat& format, const WeightBytes& weight, std::int64_t k,
                     std::int64_t first_row, std::int64_t rows, std::span<float> out) {
  const Feasibility feasible = can_dequantize(format);
  SABREWING_CHECK(feasible, kUnsupported, "[dequantize] {}: {}", to_string(format), feasible.reason);
  constexpr std::int64_t kLimit = std::int64_t{1} << 40;
  SABREWING_CHECK(
      k >= 0 && k <= kLimit && first_row >= 0 && first_row <= kLimit && rows >= 0 && rows <= kLimit,
      kInvalidArgument, "[dequantize] rows {} + {} of {} columns", first_row, rows, k);
  if (k == 0 || rows == 0) return;
  const auto columns = static_cast<std::size_t>(k);
  const auto end_row = static_cast<std::size_t>(first_row + rows);
  SABREWING_CHECK(out.size() / columns >= static_cast<std::size_t>(rows), kInvalidArgument,
                  "[dequantize] {} rows of {} do not fit {} floats", rows, k, out.size());
  RowDecoder elements(format.element);
  const std::size_t row_bytes = elements.row_bytes(columns);
  SABREWING_CHECK(weight.data.size() / row_bytes >= end_row, kInvalidArgument,
                  "[dequantize] {} bytes do not hold {} rows of {} {}", weight.data.size(), end_row, k,
                  to_string(format.element));

  const std::size_t block_n = format.block.n == 0 ? end_row : static_cast<std::size_t>(format.block.n);
  const std::size_t block_k = format.block.k == 0 ? columns : static_cast<std::size_t>(format.block.k);
  const auto grid_columns = static_cast<std::size_t>(format.scale_grid(rows, k).k);
  RowDecoder scale_decoder(format.scale.value_or(kFP32));
  const std::size_t grid_row_bytes = scale_decoder.row_bytes(grid_columns);
  if (format.scale) {
    SABREWING_CHECK(weight.scales.size() / grid_row_bytes >= (end_row - 1) / block_n + 1, kInvalidArgument,
                    "[dequantize] {} bytes of scales do not hold {} rows of {} {}", weight.scales.size(),
                    (end_row - 1) / block_n + 1, grid_columns, to_string(*format.scale));
  }

  std::vector<float> scales(grid_columns);
  for (std::size_t row = static_cast<std::size_t>(first_row); row < end_row; ++row) {
    const auto values = out.subspan((row - static_cast<std::size_t>(first_row)) * columns, columns);
    elements.decode_row(weight.data.subspan(row * row_bytes, row_bytes), values);
    if (format.scale) {
      scale_decoder.decode_row(weight.scales.subspan(row / block_n * grid_row_bytes, grid_row_bytes), scales);
      for (std::size_t i = 0; i < columns; ++i) values[i] *= scales[i / block_k];
    }
    if (format.second_scale)
      for (float& value : values) value *= weight.second_scale;
  }
}

}  // namespace sabrewing::formats
