#include "jit/cubin_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "core/mapped_file.h"
#include "core/options.h"

namespace sabrewing::jit {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporaryPrefix = ".writing-";
constexpr std::chrono::hours kTemporaryLifetime{1};

std::string system_reason(int error) { return std::generic_category().message(error); }

/// 0, or the errno of what failed.
int write_all(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : ENOSPC;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  std::string aside = (path.parent_path() / fmt::format("{}XXXXXX", kTemporaryPrefix)).string();
  const int file = ::mkostemp(aside.data(), O_CLOEXEC);
  int error = file < 0 ? errno : 0;
  if (file >= 0) {
    error = write_all(file, bytes);
    if (error == 0 && ::fchmod(file, 0644) != 0) error = errno;
    if (::close(file) != 0 && error == 0) error = errno;
    if (error == 0 && ::rename(aside.c_str(), path.c_str()) != 0) error = errno;
    if (error != 0) ::unlink(aside.c_str());
  }
  SABREWING_CHECK(error == 0, kIo, "[cache] cannot write {}: {}", path.string(), system_reason(error));
}

CubinCache::CubinCache(fs::path folder, std::uint64_t max_bytes)
    : folder_(std::move(folder)), max_bytes_(max_bytes) {}

std::optional<fs::path> CubinCache::default_folder() {
  if (const auto path = environment("SABREWING_CACHE_DIR")) return fs::path(*path) / "kernels";
  if (const auto path = environment("XDG_CACHE_HOME"); path && fs::path(*path).is_absolute())
    return fs::path(*path) / "sabrewing" / "kernels";
  if (const auto home = environment("HOME")) return fs::path(*home) / ".cache" / "sabrewing" / "kernels";
  return std::nullopt;
}

std::shared_ptr<CubinCache> CubinCache::open_default() {
  const auto folder = default_folder();
  return folder ? std::make_shared<CubinCache>(*folder) : nullptr;
}

std::optional<CompiledKernels> CubinCache::load(const CacheKey& key) {
  const fs::path path = folder_ / key.file_name();
  try {
    CacheEntryContent entry = decode_entry(read_text_file(path, kMaxEntryBytes), path.string());
    SABREWING_CHECK(entry.key == key, kCorrupt, "[cache] {} holds another kernel, {}", path.string(),
                    entry.key.file_name());
    ::utimensat(AT_FDCWD, path.c_str(), nullptr,
                0);  // used now; a folder that cannot be written keeps its order
    return std::move(entry.kernels);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kCorrupt) {
      ++rejected_;
      log(LogLevel::kWarning, "{}; compiling it again", error.what());
    } else if (error.code() != ErrorCode::kNotFound) {
      warn_once(error.what());
    }
    return std::nullopt;
  }
}

std::optional<CompiledKernels> CubinCache::load_of_any_compiler(const Digest& content) {
  const std::string prefix = to_hex(content) + "-";
  std::vector<std::string> compilers;
  std::error_code error;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(kEntrySuffix) &&
        name.size() > prefix.size() + kEntrySuffix.size())
      compilers.push_back(name.substr(prefix.size(), name.size() - prefix.size() - kEntrySuffix.size()));
  }
  std::sort(compilers.rbegin(), compilers.rend());
  for (const std::string& compiler : compilers)
    if (auto kernels = load({content, compiler})) return kernels;
  return std::nullopt;
}

void CubinCache::store(const CacheKey& key, const CompiledKernels& kernels) {
  const std::string bytes = encode_entry(key, kernels);
  if (store_bytes(key.file_name(), bytes)) evict();
}

bool CubinCache::store_bytes(const std::string& file_name, std::string_view bytes) {
  if (bytes.size() > std::min<std::uint64_t>(max_bytes_, kMaxEntryBytes)) return false;
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) {
    warn_once(fmt::format("[cache] cannot make {}: {}", folder_.string(), error.message()));
    return false;
  }
  try {
    write_file_atomically(folder_ / file_name, bytes);
  } catch (const Error& failure) {
    warn_once(failure.what());
    return false;
  }
  return true;
}

void CubinCache::evict() {
  struct File {
    fs::file_time_type used;
    std::uint64_t bytes;
    fs::path path;
  };
  std::vector<File> files;
  std::uint64_t total = 0;
  const auto now = fs::file_time_type::clock::now();
  std::error_code error;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code gone;  // another process may remove the file meanwhile
    const auto used = entry->last_write_time(gone);
    const std::uint64_t bytes = gone ? 0 : entry->file_size(gone);
    if (gone) continue;
    if (name.starts_with(kTemporaryPrefix)) {
      if (now - used > kTemporaryLifetime) fs::remove(entry->path(), gone);
    } else if (name.ends_with(kEntrySuffix)) {
      files.push_back({used, bytes, entry->path()});
      total += bytes;
    }
  }
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.used < b.used; });
  for (const File& file : files) {
    if (total <= max_bytes_) break;
    std::error_code gone;
    fs::remove(file.path, gone);
    total -= file.bytes;
  }
}

void CubinCache::warn_once(std::string_view message) {
  if (!warned_.exchange(true))
    log(LogLevel::kWarning, "{}; going on without this cache of compiled kernels", message);
}

}  // namespace sabrewing::jit
