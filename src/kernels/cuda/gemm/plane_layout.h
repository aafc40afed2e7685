#pragma once

#include "kernels/cuda/gemm/weight_layout.h"

namespace sabrewing::kernels::cuda {

/// The layout of device/decode_planes.cuh for a weight that `operand` holds exactly.
WeightLayout plane_layout(const formats::WeightFormat& format, Operand operand, Accuracy accuracy);

/// Fills `packed.bytes`, which are zeros of the right size. As `pack_weight`.
void pack_planes(const WeightSource& source, const WeightLayout& layout, PackedHostWeight& packed);

/// As `unpack_weight`.
UnpackedWeight unpack_planes(const formats::WeightFormat& format, const WeightLayout& layout,
                             const PackedShape& shape, std::span<const std::byte> bytes);

}  // namespace sabrewing::kernels::cuda
