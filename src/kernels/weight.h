#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "formats/scheme/weight_format.h"
#include "kernels/matrix.h"

namespace sabrewing::kernels {

/// Consecutive rows of a weight as a checkpoint stores them, at any byte alignment. Row r begins at
/// `values + r * row_stride` (and its scales at `scales + r * scale_row_stride`), so that a stride of two
/// rows selects every second row of an interleaved tensor.
struct WeightRows {
  const std::byte* values = nullptr;
  std::int64_t row_stride = 0;        ///< bytes
  const std::byte* scales = nullptr;  ///< null where the format has none
  std::int64_t scale_row_stride = 0;  ///< bytes
  std::int64_t rows = 0;
  std::int64_t rows_per_scale = 1;  ///< rows that share a row of scales and zero points: the block's height
  /// Zero points: a dense bit stream of codes of the element's width, or numbers of the scale's type, one per
  /// column block.
  const std::byte* zeros = nullptr;
  std::int64_t zero_row_stride = 0;  ///< bytes
};

/// A packer may tell that it has read bytes of its source for the last time, so that their memory can go
/// while it still packs the rest. It holds back about so many at most.
constexpr std::size_t kStagingBytes = std::size_t{64} << 20;

/// A weight matrix [n, k] to be packed: the parts are stacked along n.
struct WeightSource {
  formats::WeightFormat format;
  std::int64_t k = 0;
  std::vector<WeightRows> parts;
  /// Hears, on the caller's thread, of bytes that were read for the last time; those of a part whose rows do
  /// not follow each other are not told. May be empty.
  std::function<void(std::span<const std::byte>)> done = {};
  float second_scale = 1;  ///< of the tensor, where the format has one

  std::int64_t n() const {
    std::int64_t rows = 0;
    for (const WeightRows& part : parts) rows += part.rows;
    return rows;
  }
};

/// A weight in the layout of one kernel family. `layout` names it and `version` changes with its bytes;
/// packing is a pure function of (source, layout, version). Padding never shows outside.
struct PackedWeight {
  std::string layout;
  std::uint32_t version = 0;
  formats::WeightFormat format;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t padded_n = 0;
  std::int64_t padded_k = 0;
  std::int64_t experts = 1;             ///< matrices of this shape, one after the other
  std::size_t expert_stride_bytes = 0;  ///< bytes from one matrix to the next
  DeviceBuffer bytes;
};

}  // namespace sabrewing::kernels
