#include "kernels/cuda/backend/plain_weight.h"

#include <cstring>

#include "core/error.h"

namespace sabrewing::kernels::cuda {

namespace {

std::size_t round_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

/// Bytes of one row in the checkpoint.
struct StoredRow {
  std::size_t values;
  std::size_t scales;
};

StoredRow stored_row(const formats::WeightFormat& format, std::int64_t k) {
  const auto bits = static_cast<std::size_t>(k) * format.element.bits;
  const std::size_t scale_bytes = format.scale ? format.scale->bits / std::size_t{8} : 0;
  return {(bits + 7) / 8, static_cast<std::size_t>(format.scale_grid(1, k).k) * scale_bytes};
}

}  // namespace

RowLayout RowLayout::of(const formats::WeightFormat& format, std::int64_t n, std::int64_t k) {
  const StoredRow row = stored_row(format, k);
  RowLayout layout;
  layout.row_bytes = round_up(row.values, 16);
  layout.scale_row_bytes = row.scales;
  layout.scale_offset = static_cast<std::size_t>(n) * layout.row_bytes;
  layout.bytes = round_up(layout.scale_offset + static_cast<std::size_t>(n) * layout.scale_row_bytes, 256);
  return layout;
}

void pack_rows(const WeightSource& source, const RowLayout& layout, std::byte* to) {
  const StoredRow row = stored_row(source.format, source.k);
  std::memset(to, 0, layout.bytes);
  std::byte* values = to;
  std::byte* scales = to + layout.scale_offset;
  for (const WeightRows& part : source.parts) {
    SABREWING_CHECK((part.values != nullptr || part.rows == 0) && (part.scales != nullptr || row.scales == 0),
                    kInvalidArgument, "[cuda pack] {} weight without {}", formats::to_string(source.format),
                    part.values == nullptr ? "values" : "scales");
    for (std::int64_t r = 0; r < part.rows; ++r) {
      std::memcpy(values, part.values + r * part.row_stride, row.values);
      values += layout.row_bytes;
      if (row.scales == 0) continue;
      std::memcpy(scales, part.scales + r * part.scale_row_stride, row.scales);
      scales += layout.scale_row_bytes;
    }
  }
}

}  // namespace sabrewing::kernels::cuda
