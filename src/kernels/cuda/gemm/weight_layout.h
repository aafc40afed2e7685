#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/weight.h"

namespace sabrewing::kernels::cuda {

/// How the GEMM kernels store a weight format (device/decode.cuh): slabs of 64 rows by `slab_k` columns in
/// MMA fragment order with their scales, [row block][slab], with zeros up to a multiple of 128
/// columns; after them one FP32 factor per row where the
/// format needs it.
struct WeightLayout {
  enum class Encoding : std::uint8_t {
    kE2M1E8M0,  ///< scattered sign and magnitude bits; scale bytes hold the exponent that ends in BF16
    kInt4,      ///< value + 8 in nibbles; BF16 group scales or none
    kE4M3,      ///< bytes; scales per row or tensor only
  };
  static constexpr std::uint32_t kVersion = 1;

  Encoding encoding = Encoding::kE2M1E8M0;
  int slab_k = 64;
  int words = 4;              ///< of 32 bits per lane and 64 columns
  int scale_words = 0;        ///< of 32 bits per pair of rows and slab
  int group = 0;              ///< columns per scale inside the slabs; 0: none
  std::string decoder;        ///< the device type whose scales go into the weights
  std::string decoder_after;  ///< the one whose scales go onto FP32 sums; empty when there is none
  bool pre_scaled = false;    ///< `decoder` rounds

  std::size_t slab_bytes() const;
  bool operator==(const WeightLayout&) const = default;
};

Feasibility can_lay_out(const formats::WeightFormat& format);

/// Throws `Error{kUnsupported}` with the reason of `can_lay_out`.
WeightLayout weight_layout(const formats::WeightFormat& format);

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

/// A pure function of the source. Throws `Error{kCorrupt}` for a NaN scale and `Error{kInvalidArgument}` when
/// the group does not divide K.
PackedHostWeight pack_weight(const WeightSource& source);

/// The inverse: codes as the checkpoint's element type, one per byte (n, k), and row scales as floats, one
/// per (row, scale column).
struct UnpackedWeight {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::int64_t scale_columns = 0;
};
UnpackedWeight unpack_weight(const formats::WeightFormat& format, const PackedShape& shape,
                             std::span<const std::byte> bytes);

}  // namespace sabrewing::kernels::cuda
