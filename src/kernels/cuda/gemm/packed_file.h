#pragma once

#include <filesystem>
#include <span>

#include "core/mapped_file.h"
#include "kernels/cuda/gemm/weight_layout.h"

namespace sabrewing::kernels::cuda {

/// A packed weight in a file: 256 bytes of header (magic, versions, format, layout, sizes), then the bytes of
/// `PackedHostWeight`, which are therefore aligned to 256 in the mapping.
class PackedFile {
 public:
  /// Written under a temporary name and renamed. Throws `Error{kIo}`.
  static void save(const std::filesystem::path& path, const formats::WeightFormat& format,
                   const WeightLayout& layout, const PackedHostWeight& weight);

  /// Throws `Error{kNotFound}`, `Error{kIo}`, and `Error{kCorrupt}` naming the field that is damaged or not
  /// what `format` and `layout` ask for.
  PackedFile(const std::filesystem::path& path, const formats::WeightFormat& format,
             const WeightLayout& layout);

  const PackedShape& shape() const { return shape_; }
  bool has_factors() const { return has_factors_; }
  std::span<const std::byte> bytes() const;

 private:
  MappedFile file_;
  PackedShape shape_;
  bool has_factors_ = false;
};

}  // namespace sabrewing::kernels::cuda
