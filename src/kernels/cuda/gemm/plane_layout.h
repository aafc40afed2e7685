#pragma once

#include "kernels/cuda/gemm/weight_layout.h"

namespace sabrewing::kernels::cuda {

/// The layout of device/decode_planes.cuh for a weight that `operand` holds exactly.
WeightLayout plane_layout(const formats::WeightFormat& format, Operand operand, Accuracy accuracy);

/// How codes and scales are stored, beside what the layout says.
struct PlaneCodes {
  std::uint8_t mask = 0;  ///< stored codes are XORed with it
  bool sign_low = false;  ///< the sign is stored below the other bits, which are inverted where it is 1
  int rebias = 0;         ///< power of two between a number and its bits in the operand's place
  int zero_word = 0;      ///< where the zero points of a row pair begin, in words
};
PlaneCodes plane_codes(const formats::WeightFormat& format, const WeightLayout& layout);

/// Fills `packed.bytes`, which are zeros of the right size. As `pack_weight`.
void pack_planes(const WeightSource& source, const WeightLayout& layout, PackedHostWeight& packed);

/// As `unpack_weight`.
UnpackedWeight unpack_planes(const formats::WeightFormat& format, const WeightLayout& layout,
                             const PackedShape& shape, std::span<const std::byte> bytes);

}  // namespace sabrewing::kernels::cuda
