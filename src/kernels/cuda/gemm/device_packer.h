#pragma once

#include "jit/launch.h"
#include "jit/nvrtc_compiler.h"
#include "kernels/cuda/device/pack_params.h"
#include "kernels/cuda/gemm/weight_layout.h"

namespace sabrewing::kernels::cuda {

/// Whether a weight can be packed on a device: as many parts as the kernel takes, and what `pack_weight`
/// asks.
Feasibility can_pack_on_device(const WeightSource& source, const WeightLayout& layout);

/// What the kernels for a layout are compiled for.
device::PackLayout pack_layout(const formats::WeightFormat& format, const WeightLayout& layout);

/// The kernels' parameter for a source; the caller fills in `out` and the scratch.
device::PackParams pack_params(const WeightSource& source, const WeightLayout& layout,
                               const PackedShape& shape);

/// The translation unit with the kernels `pack_scan` and `pack_words`.
jit::KernelSource packer_source(const device::PackLayout& layout, jit::Architecture architecture);

/// Packs weights of one format on a GPU into the bytes of `pack_weight`.
class DevicePacker {
 public:
  /// Compiles.
  DevicePacker(jit::DevicePtr device, jit::Compiler& compiler, const formats::WeightFormat& format,
               const WeightLayout& layout);

  const formats::WeightFormat& format() const { return format_; }
  const WeightLayout& layout() const { return layout_; }

  static std::size_t scratch_bytes(std::int64_t n);

  /// `source` holds addresses of device memory; `out` has `PackedShape::bytes` at a multiple of 256,
  /// `scratch` has `scratch_bytes(n)`. Allocates nothing and does not synchronise. Throws
  /// `Error{kInvalidArgument}` for another format, and with the reason of `can_pack_on_device`.
  void enqueue(const WeightSource& source, void* out, void* scratch, jit::StreamHandle stream) const;

  /// Packs a source in host memory into `out`, with a copy of it on the device meanwhile; complete when it
  /// returns. Throws as `pack_weight` does.
  void pack(const WeightSource& source, void* out, jit::StreamHandle stream) const;

 private:
  jit::DevicePtr device_;
  formats::WeightFormat format_;
  WeightLayout layout_;
  jit::Kernel scan_;
  jit::Kernel words_;
};

}  // namespace sabrewing::kernels::cuda
