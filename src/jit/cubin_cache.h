#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "jit/cache_entry.h"

namespace sabrewing::jit {

/// Compiled kernels in one folder, shared by any number of threads and processes. An entry appears whole or
/// not at all (written aside, then renamed), holds its own key and digest, and may be copied to another
/// folder or machine. Trouble with the folder is logged once and otherwise means a miss: nothing here throws
/// for it.
class CubinCache {
 public:
  static constexpr std::uint64_t kDefaultMaxBytes = std::uint64_t{1} << 30;

  /// The folder is made when the first entry is stored. Above `max_bytes` the entries used longest ago go.
  explicit CubinCache(std::filesystem::path folder, std::uint64_t max_bytes = kDefaultMaxBytes);

  /// $SABREWING_CACHE_DIR, $XDG_CACHE_HOME/sabrewing or ~/.cache/sabrewing, in it "kernels"; nothing when
  /// none of the variables is set.
  static std::optional<std::filesystem::path> default_folder();
  /// The cache there; null without a folder.
  static std::shared_ptr<CubinCache> open_default();

  const std::filesystem::path& folder() const { return folder_; }
  std::uint64_t max_bytes() const { return max_bytes_; }

  /// The kernels stored under this key; nothing when there are none, or none that can be trusted (logged).
  std::optional<CompiledKernels> load(const CacheKey& key);
  /// The same by any compiler, for machines that have none.
  std::optional<CompiledKernels> load_of_any_compiler(const Digest& content);
  void store(const CacheKey& key, const CompiledKernels& kernels);

  /// Entries that were found damaged or foreign.
  std::uint64_t rejected() const { return rejected_; }

  /// Stores the bytes of an entry that `decode_entry` accepted. False when the folder cannot be written.
  bool store_bytes(const std::string& file_name, std::string_view bytes);
  /// Removes what is above the bound, and temporary files that a killed process left.
  void evict();

 private:
  void warn_once(std::string_view message);

  std::filesystem::path folder_;
  std::uint64_t max_bytes_;
  std::atomic<std::uint64_t> rejected_{0};
  std::atomic<bool> warned_{false};
};

/// Writes a file whole or not at all: aside in the same folder, then renamed. Throws `Error{kIo}` with the
/// system's reason; nothing is left behind.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

}  // namespace sabrewing::jit
