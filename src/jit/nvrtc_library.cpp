#include "jit/nvrtc_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/options.h"
#include "jit/dynamic_library.h"

namespace sabrewing::jit {

namespace {

constexpr int kOldestNvrtc = 12000;

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  while (start <= list.size()) {
    const std::size_t end = std::min(list.find(':', start), list.size());
    if (end > start) parts.push_back(list.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

/// A file is taken as it is, a bare name also from the system's search path; in a folder every version is.
std::vector<std::string> explicit_candidates(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return {path + "/libnvrtc.so.1?"};
  const bool in_this_folder = path.find('/') == std::string::npos && std::filesystem::exists(path, error);
  return {in_this_folder ? "./" + path : path};
}

/// The folder that holds the binary or shared library this code is in.
std::optional<std::filesystem::path> own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr)
    return std::nullopt;
  std::error_code error;
  const auto path = std::filesystem::canonical(info.dli_fname, error);
  if (error) return std::nullopt;
  return path.parent_path();
}

}  // namespace

std::vector<std::string> NvrtcLibrary::candidates() {
  if (const auto path = environment("SABREWING_NVRTC")) return explicit_candidates(*path);

  std::vector<std::string> list = {"libnvrtc.so.13", "libnvrtc.so.12"};
  std::vector<std::string> toolkits;
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"})
    if (const auto path = environment(name)) toolkits.push_back(*path);
  toolkits.insert(toolkits.end(), {"/usr/local/cuda", "/usr/local/cuda-1?*"});
  for (const std::string& toolkit : toolkits)
    for (const char* folder : {"/lib64", "/lib"}) list.push_back(toolkit + folder + "/libnvrtc.so.1?");

  std::vector<std::string> packages;
  if (const auto folder = own_folder()) {
    packages.push_back(folder->parent_path().string());
    packages.push_back(folder->parent_path().parent_path().string());
  }
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"})
    if (const auto path = environment(name)) packages.push_back(*path + "/lib/python3*/site-packages");
  if (const auto path = environment("PYTHONPATH"))
    for (const std::string& part : split(*path)) packages.push_back(part);
  if (const auto home = environment("HOME")) packages.push_back(*home + "/.local/lib/python3*/site-packages");
  packages.insert(packages.end(),
                  {"/usr/local/lib/python3*/site-packages", "/usr/local/lib/python3*/dist-packages",
                   "/usr/lib/python3/dist-packages"});
  for (const std::string& package : packages)
    for (const char* folder : {"/nvidia/cu13/lib", "/nvidia/cuda_nvrtc/lib"})
      list.push_back(package + folder + "/libnvrtc.so.1?");
  return list;
}

NvrtcLibrary::NvrtcLibrary(const std::optional<std::string>& path) {
  const auto library = DynamicLibrary::open(
      "the NVRTC compiler", path ? explicit_candidates(*path) : candidates(),
      "install the CUDA toolkit or the Python package nvidia-cuda-nvrtc, or set SABREWING_NVRTC");
#define SABREWING_LOAD(member, symbol, parameters) library.load(#symbol, api_.member);
  SABREWING_NVRTC_FUNCTIONS(SABREWING_LOAD)
#undef SABREWING_LOAD
  library.load("nvrtcGetErrorString", api_.error_string);
  path_ = library.path();

  int major = 0;
  int minor = 0;
  int count = 0;
  SABREWING_CHECK(api_.version(&major, &minor) == nvrtc_result::kSuccess, kUnsupported,
                  "[nvrtc] {} does not tell its version", path_);
  version_ = 1000 * major + 10 * minor;
  SABREWING_CHECK(version_ >= kOldestNvrtc, kUnsupported,
                  "[nvrtc] {} is NVRTC {}.{}, needed is 12.0 or newer", path_, major, minor);
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path_, error);
  identity_ = fmt::format("{}-{}", version_text(), error ? 0 : size);
  if (api_.supported_architecture_count(&count) == nvrtc_result::kSuccess && count > 0) {
    architectures_.resize(static_cast<std::size_t>(count));
    if (api_.supported_architectures(architectures_.data()) != nvrtc_result::kSuccess) architectures_.clear();
  }
}

std::string NvrtcLibrary::version_text() const {
  return fmt::format("nvrtc-{}.{}", version_ / 1000, version_ % 1000 / 10);
}

bool NvrtcLibrary::supports(Architecture architecture) const {
  return std::find(architectures_.begin(), architectures_.end(), architecture.number) != architectures_.end();
}

std::string NvrtcLibrary::supported_text() const {
  std::string text;
  for (const int number : architectures_) text += fmt::format("{}sm_{}", text.empty() ? "" : ", ", number);
  return text;
}

}  // namespace sabrewing::jit
