#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "jit/cubin_cache.h"

namespace sabrewing::jit {

/// One file of a cache folder, for people; in all texts what is not printable ASCII is a question mark.
struct CacheListing {
  std::string file;
  std::uint64_t bytes = 0;
  std::chrono::system_clock::time_point used;  ///< when it was stored or last loaded
  std::string name;                            ///< the kernel's descriptor
  std::string compiler;
  std::string architecture;
  std::string damage;  ///< why it cannot be used; empty for a good entry
};

/// The entries of the folder, latest used first; none when the folder does not exist. Throws `Error{kIo}`
/// when it cannot be read.
std::vector<CacheListing> list_cache(const std::filesystem::path& folder);

struct CacheRemoval {
  std::size_t entries = 0;
  std::uint64_t bytes = 0;
};
/// Removes every entry and abandoned temporary file, and nothing else. Throws `Error{kIo}`.
CacheRemoval clear_cache(const std::filesystem::path& folder);

struct CacheTransfer {
  std::size_t entries = 0;            ///< written to the archive, or new in the folder
  std::size_t present = 0;            ///< import: already there
  std::uint64_t bytes = 0;            ///< of `entries`
  std::vector<std::string> rejected;  ///< export: damaged entries left out, with the reason
};
/// Writes the good entries to one file, whole or not at all. Throws `Error{kIo}`.
CacheTransfer export_cache(const std::filesystem::path& folder, const std::filesystem::path& archive);
/// Adds the entries of an archive. Every byte is verified before the first entry is stored: `Error{kCorrupt}`
/// for a damaged or foreign file. `Error{kIo}` when the folder cannot be written, `Error{kInvalidArgument}`
/// when the archive exceeds the bound of the cache.
CacheTransfer import_cache(CubinCache& cache, const std::filesystem::path& archive);

}  // namespace sabrewing::jit
