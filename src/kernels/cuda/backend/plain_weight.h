#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/weight.h"

namespace sabrewing::kernels::cuda {

/// Weights as the checkpoint stores them: the rows, each padded with zeros to 16 bytes, then the rows'
/// scales.
inline constexpr std::string_view kRowLayout = "rows";
inline constexpr std::uint32_t kRowLayoutVersion = 1;

/// Sizes of one (n, k) matrix in that layout, bytes.
struct RowLayout {
  std::size_t row_bytes = 0;
  std::size_t scale_row_bytes = 0;
  std::size_t scale_offset = 0;
  std::size_t bytes = 0;  ///< a multiple of 256

  static RowLayout of(const formats::WeightFormat& format, std::int64_t n, std::int64_t k);
};

/// Writes all `RowLayout::bytes` of the source's matrix to `to`.
void pack_rows(const WeightSource& source, const RowLayout& layout, std::byte* to);

}  // namespace sabrewing::kernels::cuda
