#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "core/mapped_file.h"
#include "core/tensor.h"

namespace sabrewing::formats {

using TensorMap = std::map<std::string, TensorView, std::less<>>;

/// What a safetensors file says: 8 bytes of little-endian header length, a JSON header
/// {name: {"dtype", "shape", "data_offsets": [begin, end]}} with an optional "__metadata__" map of strings,
/// then the data. The views point into the bytes that were parsed and start at any alignment.
struct SafetensorsContent {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;
};

/// Parses hostile bytes; `what` names the file in errors. Throws `Error{kCorrupt}` on anything but a header
/// of at most 100 MB inside the file whose tensors have a shape that fits their bytes and cover the data
/// without gap or overlap; `Error{kUnsupported}` on an unknown dtype.
SafetensorsContent parse_safetensors(std::span<const std::byte> bytes, std::string_view what);

/// A safetensors file, mapped. Move-only; views live as long as it does.
class SafetensorsFile {
 public:
  /// Throws what `MappedFile` and `parse_safetensors` throw.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  const TensorMap& tensors() const { return content_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return content_.metadata; }

  /// Lets the system drop the pages of a part of a tensor that is not needed any more.
  void release(std::span<const std::byte> range) const { file_.release(range); }

 private:
  MappedFile file_;
  SafetensorsContent content_;
};

}  // namespace sabrewing::formats
