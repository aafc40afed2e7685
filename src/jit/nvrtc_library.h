#pragma once

#include <optional>
#include <string>
#include <vector>

#include "jit/architecture.h"
#include "jit/nvrtc_api.h"

namespace sabrewing::jit {

/// NVIDIA's run-time compiler, opened from where it is installed.
class NvrtcLibrary {
 public:
  /// `path`: a library file, or a folder with one; nothing for the usual places (`candidates`). Throws
  /// `Error{kNotFound}` listing every path tried, `Error{kUnsupported}` for a library older than 12.0.
  explicit NvrtcLibrary(const std::optional<std::string>& path = std::nullopt);

  const NvrtcApi& api() const { return api_; }
  const std::string& path() const { return path_; }
  /// 1000 * major + 10 * minor, as CUDA counts.
  int version() const { return version_; }
  /// "nvrtc-13.0"
  std::string version_text() const;
  /// "nvrtc-13.0-109338064", with the library's size: tells builds of one version apart, the same anywhere.
  const std::string& identity() const { return identity_; }
  bool supports(Architecture architecture) const;
  /// "sm_75, sm_80, ..."
  std::string supported_text() const;

  /// The places searched, in order: $SABREWING_NVRTC (a file or folder, alone when set), the system's search
  /// path, $CUDA_HOME and $CUDA_PATH, /usr/local/cuda*, then PyPI wheels (nvidia/cu13 and
  /// nvidia/cuda_nvrtc) beside this library, in $VIRTUAL_ENV, $CONDA_PREFIX, $PYTHONPATH and the usual
  /// site-packages folders.
  static std::vector<std::string> candidates();

 private:
  NvrtcApi api_;
  std::string path_;
  std::string identity_;
  int version_ = 0;
  std::vector<int> architectures_;
};

}  // namespace sabrewing::jit
