#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/cuda/gemm/operand.h"
#include "kernels/gemm.h"
#include "kernels/weight.h"

namespace sabrewing::kernels::cuda {

/// How the GEMM kernels store a weight format (device/decode.cuh): slabs of 64 rows by `slab_k` columns in
/// MMA fragment order with their scales, [row block][slab], with zeros up to a multiple of 128
/// columns; after them one FP32 factor per row where the
/// format needs it.
struct WeightLayout {
  enum class Encoding : std::uint8_t {
    kE2M1E8M0,    ///< scattered sign and magnitude bits; scale bytes hold the exponent that ends in BF16
    kInt4,        ///< value + 8 in nibbles; BF16 group scales or none
    kE4M3,        ///< bytes; scales per row or tensor only
    kPlanes,      ///< everything else: device/decode_planes.cuh
    kE2M1Folded,  ///< scales in the exponents of E4M3 operands: gemm/folded_layout.h
  };
  static constexpr std::uint32_t kVersion = 2;
  /// Of kPlanes: scales and zero points of the blocks.
  enum class Scales : std::uint8_t {
    kFactor,  ///< per row, in the FP32 factors
    kBefore,  ///< in the slabs, in the operand's type, multiplied into the weights
    kAfter,   ///< in the slabs, in the checkpoint's type, for FP32 sums of a segment
  };

  Encoding encoding = Encoding::kE2M1E8M0;
  int slab_k = 64;
  int words = 4;              ///< of 32 bits per lane and 64 columns
  int scale_words = 0;        ///< of 32 bits per pair of rows and slab
  int group = 0;              ///< columns per scale inside the slabs; 0: none
  std::string decoder;        ///< the device type whose scales go into the weights
  std::string decoder_after;  ///< the one whose scales go onto FP32 sums; empty when there is none
  bool pre_scaled = false;    ///< `decoder` rounds
  Operand operand = Operand::kBF16;
  int segment = 0;  ///< kPlanes: columns per stored scale or zero point, a divisor of `slab_k`; 0: none
  Scales scales = Scales::kFactor;
  formats::ElementType stored_scale = formats::kFP32;  ///< in the slabs
  bool zero_after = false;    ///< float zero points go onto FP32 sums with the scales
  bool block_scales = false;  ///< onto FP32 sums, the same for 64 features
  /// kPlanes: a code is the operand. The weights of a slab are 64 rows of 128 bytes, whose 16-byte parts are
  /// exchanged as the 128-byte swizzle of Hopper's shared memory operands has them: part i of row r is in
  /// place i ^ (r % 8).
  bool swizzled = false;
  /// 2^ledger times the operand's value is the element's.
  int ledger = 0;

  std::size_t slab_bytes() const;
  bool operator==(const WeightLayout&) const = default;
};

Feasibility can_lay_out(const formats::WeightFormat& format,
                        const formats::ActivationFormat& activation = formats::ActivationFormat::bf16());

/// With an accuracy above `kDefault`, scales of blocks whose product with a weight would round are
/// kept for the FP32 sums. Throws `Error{kUnsupported}` with the reason of `can_lay_out`.
WeightLayout weight_layout(const formats::WeightFormat& format,
                           const formats::ActivationFormat& activation = formats::ActivationFormat::bf16(),
                           Accuracy accuracy = Accuracy::kDefault);

/// Sizes of one packed (n, k) matrix.
struct PackedShape {
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t row_blocks = 0;
  std::int64_t slabs = 0;
  std::size_t factor_offset = 0;  ///< of the FP32 factors; a multiple of 256
  std::size_t bytes = 0;

  static PackedShape of(const WeightLayout& layout, std::int64_t n, std::int64_t k);
};

struct PackedHostWeight {
  PackedShape shape;
  bool has_factors = false;  ///< some row's factor is not 1
  std::vector<std::byte> bytes;
};

/// A pure function of the source and the layout. Throws `Error{kCorrupt}` for a NaN or infinity,
/// `Error{kInvalidArgument}` when a group does not divide K, and `Error{kUnsupported}` when the scales of a
/// row are too far apart for the operand's type.
PackedHostWeight pack_weight(const WeightSource& source, const WeightLayout& layout);
inline PackedHostWeight pack_weight(const WeightSource& source) {
  return pack_weight(source, weight_layout(source.format));
}

/// The inverse: codes as the checkpoint's element type, one per byte (n, k), and scales as floats and zero
/// points, one per (row, scale column).
struct UnpackedWeight {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;  ///< with the second scale
  std::vector<float> zeros;   ///< empty without zero points
  std::int64_t scale_columns = 0;
};
UnpackedWeight unpack_weight(const formats::WeightFormat& format, const WeightLayout& layout,
                             const PackedShape& shape, std::span<const std::byte> bytes);
inline UnpackedWeight unpack_weight(const formats::WeightFormat& format, const PackedShape& shape,
                                    std::span<const std::byte> bytes) {
  return unpack_weight(format, weight_layout(format), shape, bytes);
}

}  // namespace sabrewing::kernels::cuda
