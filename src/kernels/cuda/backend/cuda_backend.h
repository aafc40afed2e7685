#pragma once

#include <memory>

#include "kernels/backend.h"

namespace sabrewing::kernels::cuda {

struct CudaBackendOptions {
  int ordinal = 0;
  /// `kExact` makes a backend with FP32 activations and cache; else both are BF16. Arithmetic is FP32 in
  /// both.
  Accuracy accuracy = Accuracy::kDefault;
};

/// Whether `make_cuda_backend` would succeed as far as driver, device and run-time compiler go, with the
/// reason when not.
Feasibility cuda_usable(const CudaBackendOptions& options);

/// The backend of one GPU (compute capability 8.0 and up). Operations are queued on one stream of its own;
/// `copy_out` is complete after `synchronize`. Kernels are compiled here and by `plan`, never by an
/// operation. Throws `Error{kDevice}` with the reason of `cuda_usable`, and as `jit::Compiler::compile` does.
std::unique_ptr<Backend> make_cuda_backend(const CudaBackendOptions& options);

}  // namespace sabrewing::kernels::cuda
