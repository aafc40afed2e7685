#pragma once

#include "jit/launch.h"
#include "jit/nvrtc_compiler.h"
#include "kernels/cuda/device/pack_params.h"
#include "kernels/cuda/gemm/weight_layout.h"

namespace sabrewing::kernels::cuda {

/// Whether a weight can be packed on a device: as many parts as the kernel takes, and what `pack_weight`
/// asks.
Feasibility can_pack_on_device(const WeightSource& source, const WeightLayout& layout);

/// The kernels' parameter for a source; the caller fills in `out` and the scratch.
device::PackParams pack_params(const WeightSource& source, const WeightLayout& layout,
                               const PackedShape& shape);

/// The translation unit with the kernels `pack_scan` and `pack_words`.
jit::KernelSource packer_source(jit::Architecture architecture);

/// Packs weights on a GPU into the bytes of `pack_weight`.
class DevicePacker {
 public:
  DevicePacker(jit::DevicePtr device, jit::Compiler& compiler);

  static std::size_t scratch_bytes(std::int64_t n);

  /// `source` holds addresses of device memory; `out` has `shape.bytes` at a multiple of 256, `scratch` has
  /// `scratch_bytes(n)`. Allocates nothing and does not synchronise.
  void enqueue(const WeightSource& source, const WeightLayout& layout, const PackedShape& shape, void* out,
               void* scratch, jit::StreamHandle stream) const;

  /// Packs a source in host memory into `out`; complete when it returns. Throws as `pack_weight` does.
  void pack(const WeightSource& source, const WeightLayout& layout, void* out,
            jit::StreamHandle stream) const;

 private:
  jit::DevicePtr device_;
  jit::Kernel scan_;
  jit::Kernel words_;
};

}  // namespace sabrewing::kernels::cuda
