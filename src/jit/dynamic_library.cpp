#include "jit/dynamic_library.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"

namespace sabrewing::jit {

namespace {

std::vector<std::string> expand(const std::string& pattern) {
  std::vector<std::string> paths;
  glob_t result{};
  if (glob(pattern.c_str(), 0, nullptr, &result) == 0)
    for (std::size_t i = 0; i < result.gl_pathc; ++i) paths.emplace_back(result.gl_pathv[i]);
  globfree(&result);
  std::reverse(paths.begin(), paths.end());
  return paths;
}

std::string resolved_path(void* handle, const std::string& fallback) {
  link_map* map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map->l_name == nullptr || *map->l_name == '\0')
    return fallback;
  std::error_code error;
  const auto canonical = std::filesystem::canonical(map->l_name, error);
  return error ? std::string(map->l_name) : canonical.string();
}

}  // namespace

DynamicLibrary DynamicLibrary::open(std::string_view what, const std::vector<std::string>& candidates,
                                    std::string_view advice) {
  std::string tried;
  const auto note = [&tried](std::string_view path, std::string_view reason) {
    if (!tried.empty()) tried += ", ";
    tried += fmt::format("{} ({})", path, reason);
  };
  const auto attempt = [&note](const std::string& path) -> void* {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      const char* reason = dlerror();
      note(path, reason != nullptr ? reason : "unknown reason");
    }
    return handle;
  };

  DynamicLibrary library;
  for (const std::string& candidate : candidates) {
    const bool is_path = candidate.find('/') != std::string::npos;
    const bool is_pattern = is_path && candidate.find_first_of("*?") != std::string::npos;
    std::error_code error;
    if (is_path && !is_pattern && !std::filesystem::exists(candidate, error)) {
      note(candidate, "no such file");
      continue;
    }
    const std::vector<std::string> paths = is_pattern ? expand(candidate) : std::vector{candidate};
    if (paths.empty()) note(candidate, "no match");
    for (const std::string& path : paths) {
      library.handle_ = attempt(path);
      if (library.handle_ == nullptr) continue;
      library.path_ = resolved_path(library.handle_, path);
      return library;
    }
  }
  fail(ErrorCode::kNotFound, "[open] {} not found: tried {}; {}", what, tried, advice);
}

void* DynamicLibrary::find(const char* symbol) const { return dlsym(handle_, symbol); }

void* DynamicLibrary::require(const char* symbol) const {
  void* address = find(symbol);
  SABREWING_CHECK(address != nullptr, kUnsupported, "[open] {} is too old: it has no {}", path_, symbol);
  return address;
}

}  // namespace sabrewing::jit
