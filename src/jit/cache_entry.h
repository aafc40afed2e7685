#pragma once

#include <string>
#include <string_view>

#include "jit/kernel_source.h"
#include "jit/sha256.h"

namespace sabrewing::jit {

/// What decides a compiled kernel: the digest of source, headers, options and architecture, and the exact
/// compiler ("nvrtc-13.0-109338064": version and size of the library; letters, digits, '.' and '-').
struct CacheKey {
  Digest content{};
  std::string compiler;

  bool operator==(const CacheKey&) const = default;

  /// "<64 hexadecimal digits>-<compiler>.kernel"
  std::string file_name() const;
};

inline constexpr std::string_view kEntrySuffix = ".kernel";
inline constexpr std::size_t kMaxEntryBytes = std::size_t{256} << 20;

/// One file of the cache, self-describing and independent of where it lies. Little-endian:
/// "SBWKRNL1", content digest (32), payload digest (32), payload bytes (u64), payload; the payload holds the
/// compiler, then the fields of `CompiledKernels`, each text or list after its length (u32).
std::string encode_entry(const CacheKey& key, const CompiledKernels& kernels);

struct CacheEntryContent {
  CacheKey key;
  CompiledKernels kernels;
};

/// The inverse for hostile bytes. `what` names the file in errors. Throws `Error{kCorrupt}`.
CacheEntryContent decode_entry(std::string_view bytes, std::string_view what);

}  // namespace sabrewing::jit
