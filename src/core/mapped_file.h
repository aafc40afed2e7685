#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace sabrewing {

/// A regular file mapped read-only. Move-only. Errors name the file: `kNotFound`, or `kIo` with the
/// system's reason (a directory, an unreadable or special file).
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Tells the system that the pages wholly inside `range`, a part of `bytes()`, are not needed any more.
  void release(std::span<const std::byte> range) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The whole content of a regular file of at most `limit` bytes. Same errors; `kCorrupt` when larger.
std::string read_text_file(const std::filesystem::path& path, std::size_t limit);

}  // namespace sabrewing
