#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"

namespace sabrewing::kernels::cpu {

struct CpuBackendOptions {
  int threads = 0;   ///< 0: every processor that this process may use
  std::string tier;  ///< "scalar", "avx2" or "avx512"; empty: the best of this machine
};

/// The backend of host memory. Activations are FP32; the cache is FP32 for `kExact`, else BF16. Operations
/// are done when they return. Workspaces are 64-byte aligned, as `allocate` gives them. Throws as
/// `select_tier` and `ThreadPool` do.
std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options);

}  // namespace sabrewing::kernels::cpu
