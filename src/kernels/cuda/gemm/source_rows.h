#pragma once

#include <cstdint>

#include "kernels/weight.h"

namespace sabrewing::kernels::cuda {

struct SourceRow {
  const std::byte* values = nullptr;
  const std::byte* scales = nullptr;  ///< null where there are none
  const std::byte* zeros = nullptr;   ///< null where there are none
};

/// Rows of a source by number. The numbers asked for must not decrease.
class SourceRows {
 public:
  explicit SourceRows(const WeightSource& source) : source_(source) {}

  SourceRow row(std::int64_t index) {
    while (index - first_ >= source_.parts[part_].rows) first_ += source_.parts[part_++].rows;
    const WeightRows& rows = source_.parts[part_];
    const std::int64_t local = index - first_;
    const std::int64_t block = local / rows.rows_per_scale;
    return {rows.values + local * rows.row_stride,
            rows.scales == nullptr ? nullptr : rows.scales + block * rows.scale_row_stride,
            rows.zeros == nullptr ? nullptr : rows.zeros + block * rows.zero_row_stride};
  }

 private:
  const WeightSource& source_;
  std::size_t part_ = 0;
  std::int64_t first_ = 0;
};

}  // namespace sabrewing::kernels::cuda
