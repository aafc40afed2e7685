#include "jit/cache_admin.h"

#include <algorithm>
#include <system_error>

#include "core/error.h"
#include "core/mapped_file.h"

namespace sabrewing::jit {

namespace {

namespace fs = std::filesystem;

// The archive: magic, number of entries (u64), for each its size (u64) and its bytes as in the folder, then
// the SHA-256 of everything before. Little-endian.
constexpr std::string_view kArchiveMagic = "SBWKARC1";

void put_u64(std::string& out, std::uint64_t value) {
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(value >> 8 * i));
}

std::uint64_t take_u64(std::string_view& bytes, const fs::path& archive) {
  SABREWING_CHECK(bytes.size() >= 8, kCorrupt, "[cache] {} ends early", archive.string());
  std::uint64_t value = 0;
  for (std::size_t i = 8; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  bytes.remove_prefix(8);
  return value;
}

std::vector<fs::path> entry_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  if (!fs::exists(folder, error)) return files;
  fs::directory_iterator entry(folder, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error))
    if (entry->path().extension() == kEntrySuffix) files.push_back(entry->path());
  SABREWING_CHECK(!error, kIo, "[cache] cannot read {}: {}", folder.string(), error.message());
  std::sort(files.begin(), files.end());
  return files;
}

/// Names in a folder may come from anyone: safe for a terminal and for JSON.
std::string printable(std::string text) {
  for (char& c : text)
    if (c < ' ' || c > '~') c = '?';
  return text;
}

/// The bytes and content of a file that is what its name says.
struct LoadedEntry {
  std::string bytes;
  CacheEntryContent content;
};
LoadedEntry load_entry(const fs::path& path) {
  LoadedEntry entry;
  entry.bytes = read_text_file(path, kMaxEntryBytes);
  entry.content = decode_entry(entry.bytes, path.string());
  SABREWING_CHECK(entry.content.key.file_name() == path.filename().string(), kCorrupt,
                  "[cache] {} holds another kernel, {}", path.string(), entry.content.key.file_name());
  return entry;
}

/// Whether a usable entry is there: not for an absent or a damaged one.
bool is_good_entry(const fs::path& path) {
  try {
    load_entry(path);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::vector<CacheListing> list_cache(const fs::path& folder) {
  std::vector<CacheListing> listing;
  for (const fs::path& path : entry_files(folder)) {
    CacheListing item;
    item.file = printable(path.filename().string());
    std::error_code gone;
    const auto used = fs::last_write_time(path, gone);
    item.bytes = gone ? 0 : fs::file_size(path, gone);
    if (gone) continue;
    item.used = std::chrono::time_point_cast<std::chrono::system_clock::duration>(
        std::chrono::file_clock::to_sys(used));
    try {
      const CacheEntryContent content = load_entry(path).content;
      item.name = printable(content.kernels.name);
      item.compiler = printable(content.kernels.compiler);
      item.architecture = content.kernels.architecture.to_string();
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kNotFound) continue;
      item.damage = printable(error.what());
    }
    listing.push_back(std::move(item));
  }
  std::sort(listing.begin(), listing.end(), [](const CacheListing& a, const CacheListing& b) {
    return a.used != b.used ? a.used > b.used : a.file < b.file;
  });
  return listing;
}

CacheRemoval clear_cache(const fs::path& folder) {
  CacheRemoval removal;
  for (const fs::path& path : entry_files(folder)) {
    std::error_code error;
    const std::uint64_t bytes = fs::file_size(path, error);
    if (error) continue;
    const bool removed = fs::remove(path, error);
    SABREWING_CHECK(!error, kIo, "[cache] cannot remove {}: {}", path.string(), error.message());
    if (!removed) continue;
    ++removal.entries;
    removal.bytes += bytes;
  }
  CubinCache(folder).evict();
  return removal;
}

CacheTransfer export_cache(const fs::path& folder, const fs::path& archive) {
  CacheTransfer transfer;
  std::string entries;
  for (const fs::path& path : entry_files(folder)) {
    try {
      const LoadedEntry entry = load_entry(path);
      put_u64(entries, entry.bytes.size());
      entries += entry.bytes;
      ++transfer.entries;
      transfer.bytes += entry.bytes.size();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kNotFound) transfer.rejected.emplace_back(error.what());
    }
  }
  std::string bytes(kArchiveMagic);
  put_u64(bytes, transfer.entries);
  bytes += entries;
  const Digest digest = sha256(std::as_bytes(std::span(bytes)));
  bytes.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  write_file_atomically(fs::absolute(archive), bytes);
  return transfer;
}

CacheTransfer import_cache(CubinCache& cache, const fs::path& archive) {
  const MappedFile file(archive);
  std::string_view bytes(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  SABREWING_CHECK(bytes.starts_with(kArchiveMagic), kCorrupt,
                  "[cache] {} is not an archive of compiled kernels", archive.string());
  constexpr std::size_t kDigestBytes = sizeof(Digest);
  SABREWING_CHECK(bytes.size() >= kArchiveMagic.size() + 8 + kDigestBytes, kCorrupt, "[cache] {} ends early",
                  archive.string());
  const std::string_view recorded = bytes.substr(bytes.size() - kDigestBytes);
  bytes.remove_suffix(kDigestBytes);
  const Digest digest = sha256(std::as_bytes(std::span(bytes)));
  SABREWING_CHECK(std::equal(digest.begin(), digest.end(), recorded.begin(),
                             [](std::uint8_t a, char b) { return a == static_cast<std::uint8_t>(b); }),
                  kCorrupt, "[cache] {} is damaged: its content does not have the recorded digest",
                  archive.string());
  bytes.remove_prefix(kArchiveMagic.size());

  struct Item {
    std::string file_name;
    std::string_view bytes;
  };
  std::vector<Item> items;
  std::uint64_t total = 0;
  const std::uint64_t count = take_u64(bytes, archive);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t size = take_u64(bytes, archive);
    SABREWING_CHECK(size <= bytes.size(), kCorrupt, "[cache] {} ends early", archive.string());
    const std::string_view entry = bytes.substr(0, size);
    bytes.remove_prefix(size);
    const std::string what = fmt::format("entry {} of {}", i, archive.string());
    items.push_back({decode_entry(entry, what).key.file_name(), entry});
    total += size;
  }
  SABREWING_CHECK(bytes.empty(), kCorrupt, "[cache] {} has {} bytes too many", archive.string(),
                  bytes.size());
  SABREWING_CHECK(total <= cache.max_bytes(), kInvalidArgument,
                  "[cache] {} holds {} bytes of kernels, the cache is bounded to {}", archive.string(), total,
                  cache.max_bytes());

  CacheTransfer transfer;
  for (const Item& item : items) {
    if (is_good_entry(cache.folder() / item.file_name)) {
      ++transfer.present;
      continue;
    }
    SABREWING_CHECK(cache.store_bytes(item.file_name, item.bytes), kIo, "[cache] cannot write to {}",
                    cache.folder().string());
    ++transfer.entries;
    transfer.bytes += item.bytes.size();
  }
  cache.evict();
  return transfer;
}

}  // namespace sabrewing::jit
