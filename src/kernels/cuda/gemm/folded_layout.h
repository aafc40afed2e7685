#pragma once

#include "kernels/cuda/gemm/weight_layout.h"

namespace sabrewing::kernels::cuda {

/// E2M1 weights with an E8M0 scale per 32 columns for E4M3 operands (`E2M1FoldedToE4M3` of
/// device/decode.cuh): a row's largest exponent goes into its factor, and the distance of a group to it into
/// the exponents of the operands. That is exact for distances up to 11. Groups farther away are rounded to
/// the codes that distance 11 leaves them.
WeightLayout folded_layout();

/// Fills `packed.bytes`, which are zeros of the right size. As `pack_weight`; `Error{kUnsupported}` when the
/// rounding moves a row by more than `device::kFoldedError` of its norm.
void pack_folded(const WeightSource& source, const WeightLayout& layout, PackedHostWeight& packed);

/// As `unpack_weight`; groups that were rounded come out as they are stored.
UnpackedWeight unpack_folded(const WeightLayout& layout, const PackedShape& shape,
                             std::span<const std::byte> bytes);

}  // namespace sabrewing::kernels::cuda
