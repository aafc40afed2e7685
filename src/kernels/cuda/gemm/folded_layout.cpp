#include "kernels/cuda/gemm/folded_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "formats/numeric/bit_stream.h"
#include "formats/numeric/element_type.h"
#include "kernels/cuda/device/pack_params.h"
#include "kernels/cuda/gemm/source_rows.h"

namespace sabrewing::kernels::cuda {

namespace {

using device::kFoldedDistance;
using device::kFoldedShift;

constexpr int kGroup = 32;
constexpr int kBias = 127;  // of E8M0
constexpr int kNan = 255;

/// Where an element lies in the packed matrix.
struct FoldedPlace {
  std::size_t word;  ///< byte offset of its 32-bit word
  int magnitude;     ///< its lowest bit in the word
  int sign;
};

std::size_t slab_offset(const WeightLayout& layout, const PackedShape& shape, std::int64_t row,
                        std::int64_t column) {
  return static_cast<std::size_t>(row / 64 * shape.slabs + column / layout.slab_k) * layout.slab_bytes();
}

FoldedPlace folded_place_of(const WeightLayout& layout, const PackedShape& shape, std::int64_t row,
                            std::int64_t column) {
  const int r = static_cast<int>(row % 64);
  const int c = static_cast<int>(column % layout.slab_k);
  const int lane = r % 8 * 4 + c % 16 / 4;
  const int word = c % 64 / 32 * 2 + r % 16 / 8;
  const int high = c % 32 / 16;  // of a word's two registers
  const int byte = c % 4;
  const int in_slab = (c / 64 * 4 + r / 16) * layout.words * 128 + lane * 16 + word * 4;
  return {slab_offset(layout, shape, row, column) + static_cast<std::size_t>(in_slab), 16 * high + 4 * byte,
          8 * byte + (high == 0 ? 7 : 3)};
}

/// Byte offset of the distance of (row, column).
std::size_t distance_place(const WeightLayout& layout, const PackedShape& shape, std::int64_t row,
                           std::int64_t column) {
  const int r = static_cast<int>(row % 64);
  const int pair = r / 16 * 8 + r % 8;
  const int in_slab = layout.slab_k / 64 * 4 * layout.words * 128 + pair * layout.scale_words * 4 +
                      r % 16 / 8 * 4 + static_cast<int>(column % layout.slab_k) / kGroup;
  return slab_offset(layout, shape, row, column) + static_cast<std::size_t>(in_slab);
}

struct RowExponents {
  std::optional<int> largest;  ///< of the groups with a weight that is not zero
  int smallest = 0;
};

RowExponents row_exponents(std::span<const std::uint8_t> codes, const std::byte* scales, std::int64_t row) {
  RowExponents out;
  for (std::size_t group = 0; group * kGroup < codes.size(); ++group) {
    const int exponent = std::to_integer<int>(scales[group]);
    SABREWING_CHECK(exponent != kNan, kCorrupt, "[pack] the scale of row {}, group {} is NaN", row, group);
    const auto of_group = codes.subspan(group * kGroup, kGroup);
    if (std::none_of(of_group.begin(), of_group.end(), [](std::uint8_t code) { return (code & 7) != 0; }))
      continue;
    out.smallest = out.largest ? std::min(out.smallest, exponent) : exponent;
    out.largest = std::max(out.largest.value_or(0), exponent);
  }
  return out;
}

/// Rounds the codes of groups that are too far from the largest exponent.
void round_far_groups(std::span<std::uint8_t> codes, const std::byte* scales, const RowExponents& exponents,
                      std::int64_t row) {
  double error = 0, norm = 0;
  for (std::size_t group = 0; group * kGroup < codes.size(); ++group) {
    const int distance = *exponents.largest - std::to_integer<int>(scales[group]);
    const int beyond = std::max(0, distance - kFoldedDistance);
    for (std::uint8_t& code : codes.subspan(group * kGroup, kGroup)) {
      if ((code & 7) == 0) continue;
      const auto size = static_cast<double>(formats::decode(formats::kE2M1, code & 7));
      const std::uint32_t rounded = formats::encode(formats::kE2M1, std::ldexp(size, -beyond));
      const double kept = std::ldexp(static_cast<double>(formats::decode(formats::kE2M1, rounded)), beyond);
      error += std::ldexp((kept - size) * (kept - size), -2 * distance);
      norm += std::ldexp(size * size, -2 * distance);
      code = static_cast<std::uint8_t>((code & 8) | rounded);
    }
  }
  SABREWING_CHECK(error <= device::kFoldedError * device::kFoldedError * norm, kUnsupported,
                  "[pack] row {}: its scales spread over {} binades; E4M3 weights hold {}, and rounding the "
                  "others moves the row by {:.2g} of its norm (at most {}): use accuracy high, which keeps "
                  "the scales in FP32",
                  row, *exponents.largest - exponents.smallest + 1, kFoldedDistance + 1,
                  std::sqrt(error / norm), device::kFoldedError);
}

}  // namespace

WeightLayout folded_layout() {
  WeightLayout layout;
  layout.encoding = WeightLayout::Encoding::kE2M1Folded;
  layout.operand = Operand::kE4M3;
  layout.slab_k = 128;
  layout.scale_words = 2;
  layout.group = kGroup;
  layout.decoder = "E2M1FoldedToE4M3";
  return layout;
}

void pack_folded(const WeightSource& source, const WeightLayout& layout, PackedHostWeight& packed) {
  const PackedShape& shape = packed.shape;
  std::vector<float> factors(static_cast<std::size_t>(shape.row_blocks * 64), 1.0f);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(shape.k));
  SourceRows rows(source);
  for (std::int64_t row = 0; row < shape.n; ++row) {
    const SourceRow from = rows.row(row);
    formats::unpack_codes({from.values, formats::packed_bytes(codes.size(), 4)}, 4, 0, codes);
    const RowExponents exponents = row_exponents(codes, from.scales, row);
    const int largest = exponents.largest.value_or(-1);
    if (largest - exponents.smallest > kFoldedDistance) round_far_groups(codes, from.scales, exponents, row);
    for (std::int64_t column = 0; column < shape.k; ++column) {
      const std::uint32_t code = codes[static_cast<std::size_t>(column)];
      const FoldedPlace at = folded_place_of(layout, shape, row, column);
      std::uint32_t word;
      std::memcpy(&word, packed.bytes.data() + at.word, 4);
      word |= (code & 7) << at.magnitude | (code >> 3) << at.sign;
      std::memcpy(packed.bytes.data() + at.word, &word, 4);
    }
    for (std::int64_t column = 0; column < shape.k; column += kGroup) {
      // Groups of zeros may lie anywhere.
      const int distance =
          std::clamp(largest - std::to_integer<int>(from.scales[column / kGroup]), 0, kFoldedDistance);
      packed.bytes[distance_place(layout, shape, row, column)] = static_cast<std::byte>(8 * distance);
    }
    if (!exponents.largest) continue;
    float& factor = factors[static_cast<std::size_t>(row)];
    factor = std::ldexp(1.0f, largest - kBias - kFoldedShift);
    packed.has_factors |= factor != 1.0f;
  }
  std::memcpy(packed.bytes.data() + shape.factor_offset, factors.data(), factors.size() * sizeof(float));
}

UnpackedWeight unpack_folded(const WeightLayout& layout, const PackedShape& shape,
                             std::span<const std::byte> bytes) {
  UnpackedWeight out;
  out.codes.reserve(static_cast<std::size_t>(shape.n * shape.k));
  out.scale_columns = shape.k / kGroup;
  for (std::int64_t row = 0; row < shape.n; ++row) {
    for (std::int64_t column = 0; column < shape.k; ++column) {
      const FoldedPlace at = folded_place_of(layout, shape, row, column);
      std::uint32_t word;
      std::memcpy(&word, bytes.data() + at.word, 4);
      out.codes.push_back(static_cast<std::uint8_t>((word >> at.sign & 1) << 3 | (word >> at.magnitude & 7)));
    }
    float factor;
    std::memcpy(&factor, bytes.data() + shape.factor_offset + static_cast<std::size_t>(row) * sizeof(float),
                sizeof factor);
    for (std::int64_t column = 0; column < shape.k; column += kGroup) {
      const int distance = std::to_integer<int>(bytes[distance_place(layout, shape, row, column)]) / 8;
      out.scales.push_back(std::ldexp(factor, kFoldedShift - distance));
    }
  }
  return out;
}

}  // namespace sabrewing::kernels::cuda
