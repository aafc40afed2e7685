#include "kernels/cuda/gemm/weight_layout.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "formats/numeric/bit_stream.h"
#include "formats/numeric/element_type.h"
#include "formats/numeric/float16.h"
#include "kernels/cuda/gemm/folded_layout.h"
#include "kernels/cuda/gemm/launch_size.h"
#include "kernels/cuda/gemm/plane_layout.h"
#include "kernels/cuda/gemm/source_rows.h"

namespace sabrewing::kernels::cuda {

namespace {

using Encoding = WeightLayout::Encoding;

constexpr int kRowsPerBlock = 64;
constexpr int kColumnMultiple = 128;
constexpr std::size_t kFactorAlignment = 256;
// What the multiplication by a stored E8M0 byte undoes: E2M1 bits in BF16's place are 2^-126 too small.
constexpr int kE2M1Bias = 126;
constexpr int kLargestStoredExponent = 254;
// The same for stored BF16 scales of int4, whose products come out 2^4 too small.
constexpr int kInt4Bias = 126;
constexpr int kInt4Shift = 4;

/// Where an element lies in the packed matrix.
struct Place {
  std::size_t word;  ///< byte offset of its 32-bit word
  int reg;           ///< register of the fragment, 0 to 3
  int half;          ///< 16-bit half of the register
};

Place place_of(const WeightLayout& layout, const PackedShape& shape, std::int64_t row, std::int64_t column) {
  const std::size_t slab =
      static_cast<std::size_t>(row / kRowsPerBlock * shape.slabs + column / layout.slab_k);
  const int r = static_cast<int>(row % kRowsPerBlock);
  const int c = static_cast<int>(column % layout.slab_k);
  const int warp = r / 16;
  const int box = c / 64;
  const int step = c % 64 / 16;
  const int lane = r % 8 * 4 + c % 8 / 2;
  const int reg = c % 16 / 8 * 2 + r % 16 / 8;
  const int word = layout.words == 4 ? step : step * 2 + reg / 2;
  const std::size_t warp_bytes = static_cast<std::size_t>(layout.words) * 128;
  const std::size_t in_slab = static_cast<std::size_t>(box * 4 + warp) * warp_bytes +
                              static_cast<std::size_t>(word / 4 * 512 + lane * 16 + word % 4 * 4);
  return {slab * layout.slab_bytes() + in_slab, reg, c % 2};
}

/// Byte offset of the scale of (row, column).
std::size_t scale_place(const WeightLayout& layout, const PackedShape& shape, std::int64_t row,
                        std::int64_t column) {
  const std::size_t slab =
      static_cast<std::size_t>(row / kRowsPerBlock * shape.slabs + column / layout.slab_k);
  const int r = static_cast<int>(row % kRowsPerBlock);
  const std::size_t weights = static_cast<std::size_t>(layout.slab_k / 64) * 4 * layout.words * 128;
  const int per_pair = layout.scale_words * 4;
  const int group = static_cast<int>(column % layout.slab_k) / std::min(layout.group, layout.slab_k);
  const int scale_bytes = layout.encoding == Encoding::kE2M1E8M0 ? 1 : 2;
  const int in_pair = r % 16 / 8 * (per_pair / 2) + group * scale_bytes;
  return slab * layout.slab_bytes() + weights +
         static_cast<std::size_t>((r / 16 * 8 + r % 8) * per_pair + in_pair);
}

/// Positions in a 16-bit half of the sign and the lowest magnitude bit of an E2M1 value, by register.
struct E2M1Bits {
  int sign;
  int magnitude;
};
constexpr std::array<E2M1Bits, 4> kE2M1Bits{{{15, 6}, {12, 3}, {14, 0}, {13, 9}}};

std::uint32_t load_word(const std::byte* from) {
  std::uint32_t word;
  std::memcpy(&word, from, 4);
  return word;
}

void or_word(std::byte* to, std::uint32_t bits) {
  const std::uint32_t word = load_word(to) | bits;
  std::memcpy(to, &word, 4);
}

std::uint32_t encode_bits(Encoding encoding, const Place& at, std::uint32_t code) {
  switch (encoding) {
    case Encoding::kE2M1E8M0: {
      const E2M1Bits bits = kE2M1Bits[static_cast<std::size_t>(at.reg)];
      return ((code >> 3 & 1) << bits.sign | (code & 7) << bits.magnitude) << (16 * at.half);
    }
    case Encoding::kInt4:
      // Registers 0, 1, 2: bits 6..3, 10..7, 14..11 of their half. Register 3: what a rotation by 4 brings to
      // bits 6..3, the lowest from the other half.
      return std::rotl((code ^ 8) & 15, at.reg == 3 ? 16 * at.half - 1 : 16 * at.half + 3 + 4 * at.reg);
    case Encoding::kE4M3:
      return code << (16 * at.half + 8 * (at.reg & 1));
    case Encoding::kPlanes:
    case Encoding::kE2M1Folded:
      break;
  }
  return 0;
}

std::uint8_t decode_bits(Encoding encoding, const Place& at, std::uint32_t word) {
  const std::uint32_t half = word >> (16 * at.half) & 0xffff;
  switch (encoding) {
    case Encoding::kE2M1E8M0: {
      const E2M1Bits bits = kE2M1Bits[static_cast<std::size_t>(at.reg)];
      return static_cast<std::uint8_t>((half >> bits.sign & 1) << 3 | (half >> bits.magnitude & 7));
    }
    case Encoding::kInt4:
      return static_cast<std::uint8_t>(
          (std::rotr(word, at.reg == 3 ? 16 * at.half - 1 : 16 * at.half + 3 + 4 * at.reg) & 15) ^ 8);
    case Encoding::kE4M3:
      return static_cast<std::uint8_t>(half >> (8 * (at.reg & 1)));
    case Encoding::kPlanes:
    case Encoding::kE2M1Folded:
      break;
  }
  return 0;
}

float read_scale(formats::ElementType type, const std::byte* from) {
  std::uint32_t code = 0;
  std::memcpy(&code, from, static_cast<std::size_t>(type.bits / 8));
  return formats::decode(type, code);
}

/// `scale` times 2^exponent as a BF16 code; exact unless it underflows.
std::uint16_t shifted_bf16(float scale, int exponent) {
  return formats::float_to_bf16(std::ldexp(scale, exponent));
}

/// The largest binary exponent of the BF16 group scales, those of NaN apart.
int largest_scale_exponent(const WeightSource& source, std::int64_t groups) {
  float largest = 0;
  for (const WeightRows& part : source.parts)
    for (std::int64_t r = 0; r < part.rows; ++r)
      for (std::int64_t g = 0; g < groups; ++g)
        largest = std::fmax(
            largest, std::fabs(read_scale(formats::kBF16, part.scales + r * part.scale_row_stride + 2 * g)));
  return largest > 0 ? std::ilogb(largest) : 0;
}

std::int64_t largest_exponent(const WeightSource& source, std::int64_t groups) {
  std::int64_t largest = 0;
  for (const WeightRows& part : source.parts)
    for (std::int64_t r = 0; r < part.rows; ++r)
      for (std::int64_t g = 0; g < groups; ++g) {
        const auto code = std::to_integer<std::int64_t>(part.scales[r * part.scale_row_stride + g]);
        SABREWING_CHECK(code != 255, kCorrupt, "[pack] the scale of row {}, group {} is NaN", r, g);
        largest = std::max(largest, code);
      }
  return largest;
}

}  // namespace

std::size_t WeightLayout::slab_bytes() const {
  return static_cast<std::size_t>(slab_k / 64) * 4 * words * 128 + std::size_t{32} * 4 * scale_words;
}

Feasibility can_lay_out(const formats::WeightFormat& format, const formats::ActivationFormat& activation) {
  return weight_operand(format, activation).feasible;
}

WeightLayout weight_layout(const formats::WeightFormat& format, const formats::ActivationFormat& activation,
                           Accuracy accuracy) {
  const OperandChoice choice = weight_operand(format, activation);
  if (!choice.feasible) fail(ErrorCode::kUnsupported, "[pack] {}", choice.feasible.reason);
  const bool bf16 = choice.operand == Operand::kBF16;
  if (choice.operand == Operand::kE4M3 && format == formats::WeightFormat::mxfp4() &&
      accuracy == Accuracy::kDefault)
    return folded_layout();
  WeightLayout layout;
  if (bf16 && format == formats::WeightFormat::mxfp4()) {
    layout.encoding = Encoding::kE2M1E8M0;
    layout.group = 32;
    layout.scale_words = 1;
    layout.decoder = "E2M1E8M0ToBf16";
  } else if (bf16 &&
             format == formats::WeightFormat::scaled(formats::kE4M3, {format.block.n, 0}, *format.scale)) {
    layout.encoding = Encoding::kE4M3;
    layout.words = 8;
    layout.decoder = "E4M3ToBf16";
  } else if (bf16 &&
             format == formats::WeightFormat::scaled(formats::ElementType::integer(4),
                                                     {format.block.n, format.block.k}, *format.scale) &&
             (format.block.k == 0 ||
              (format.block.n == 1 && *format.scale == formats::kBF16 && format.block.k % 64 == 0))) {
    layout.encoding = Encoding::kInt4;
    layout.group = static_cast<int>(format.block.k);
    layout.slab_k = layout.group % 128 == 0 && layout.group > 0 ? 128 : 64;
    layout.scale_words = layout.group > 0 ? 1 : 0;
    layout.pre_scaled = layout.group > 0;
    layout.decoder = fmt::format("Int4ToBf16<{}, false>", layout.group);
    if (layout.group > 0) layout.decoder_after = fmt::format("Int4ToBf16<{}, true>", layout.group);
  } else {
    return plane_layout(format, choice.operand, accuracy);
  }
  return layout;
}

PackedShape PackedShape::of(const WeightLayout& layout, std::int64_t n, std::int64_t k) {
  PackedShape shape{
      n, k, ceil_div(n, kRowsPerBlock), ceil_div(k, kColumnMultiple) * (kColumnMultiple / layout.slab_k),
      0, 0};
  const auto slabs = static_cast<std::size_t>(shape.row_blocks * shape.slabs) * layout.slab_bytes();
  shape.factor_offset = (slabs + kFactorAlignment - 1) / kFactorAlignment * kFactorAlignment;
  shape.bytes =
      shape.factor_offset + static_cast<std::size_t>(shape.row_blocks * kRowsPerBlock) * sizeof(float);
  return shape;
}

PackedHostWeight pack_weight(const WeightSource& source, const WeightLayout& layout) {
  const formats::WeightFormat& format = source.format;
  const std::int64_t n = source.n();
  const std::int64_t k = source.k;
  SABREWING_CHECK(n > 0 && k > 0, kInvalidArgument, "[pack] empty weight: {} by {}", n, k);
  SABREWING_CHECK(layout.group == 0 || format.block.n > 1 || k % layout.group == 0, kInvalidArgument,
                  "[pack] K {} is not a multiple of the group {}", k, layout.group);
  PackedHostWeight packed{PackedShape::of(layout, n, k), false, {}};
  const PackedShape& shape = packed.shape;
  packed.bytes.assign(shape.bytes, std::byte{0});
  if (layout.encoding == Encoding::kPlanes) {
    pack_planes(source, layout, packed);
    return packed;
  }
  if (layout.encoding == Encoding::kE2M1Folded) {
    pack_folded(source, layout, packed);
    return packed;
  }

  const std::int64_t groups = layout.group > 0 ? k / layout.group : 0;
  // Exponents that do not fit beside the 2^126 move into the factor, for the whole matrix.
  int lowered = 0;
  if (layout.encoding == Encoding::kE2M1E8M0)
    lowered =
        std::max(0, static_cast<int>(largest_exponent(source, groups)) + kE2M1Bias - kLargestStoredExponent);
  if (layout.encoding == Encoding::kInt4 && groups > 0)
    lowered = std::max(0, largest_scale_exponent(source, groups) + kInt4Bias - 127);

  std::vector<float> factors(static_cast<std::size_t>(shape.row_blocks * kRowsPerBlock), 1.0f);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(k));
  const std::int64_t padded_k = shape.slabs * layout.slab_k;
  SourceRows reader(source);
  for (std::int64_t row = 0; row < shape.row_blocks * kRowsPerBlock; ++row) {
    const bool present = row < n;
    const std::byte* scales = nullptr;
    if (present) {
      const SourceRow from = reader.row(row);
      scales = from.scales;
      const std::size_t row_bytes = formats::packed_bytes(codes.size(), format.element.bits);
      formats::unpack_codes({from.values, row_bytes}, format.element.bits, 0, codes);
      SABREWING_CHECK(
          format.element != formats::kE4M3 ||
              std::none_of(codes.begin(), codes.end(), [](auto code) { return (code & 0x7f) == 0x7f; }),
          kCorrupt, "[pack] row {} holds a weight that is NaN", row);
    }
    for (std::int64_t column = 0; column < padded_k; ++column) {
      const Place at = place_of(layout, shape, row, column);
      const std::uint32_t code = present && column < k ? codes[static_cast<std::size_t>(column)] : 0;
      or_word(packed.bytes.data() + at.word, encode_bits(layout.encoding, at, code));
    }
    if (!present) continue;
    for (std::int64_t column = 0; column < (layout.group > 0 ? k : 0);
         column += std::min(layout.group, layout.slab_k)) {
      std::byte* to = packed.bytes.data() + scale_place(layout, shape, row, column);
      const std::int64_t index = column / layout.group;
      if (layout.encoding == Encoding::kE2M1E8M0) {
        const int stored = std::to_integer<int>(scales[index]) + kE2M1Bias - lowered;
        *to = static_cast<std::byte>(std::max(stored, 0));
      } else {
        const float scale = read_scale(*format.scale, scales + index * 2);
        SABREWING_CHECK(std::isfinite(scale), kCorrupt, "[pack] the scale of row {}, group {} is {}", row,
                        index, scale);
        const std::uint16_t stored = shifted_bf16(scale, kInt4Bias - lowered);
        std::memcpy(to, &stored, 2);
      }
    }
    float& factor = factors[static_cast<std::size_t>(row)];
    if (layout.encoding == Encoding::kE2M1E8M0) factor = std::ldexp(1.0f, lowered);
    if (layout.group == 0) {
      factor = read_scale(*format.scale, scales);
      SABREWING_CHECK(!std::isnan(factor), kCorrupt, "[pack] the scale of row {} is NaN", row);
    }
    if (layout.encoding == Encoding::kInt4) factor *= std::ldexp(1.0f, kInt4Shift + lowered);
    packed.has_factors |= factor != 1.0f;
  }
  std::memcpy(packed.bytes.data() + shape.factor_offset, factors.data(), factors.size() * sizeof(float));
  return packed;
}

UnpackedWeight unpack_weight(const formats::WeightFormat& format, const WeightLayout& layout,
                             const PackedShape& shape, std::span<const std::byte> bytes) {
  SABREWING_CHECK(bytes.size() == shape.bytes, kCorrupt, "[unpack] {} bytes, {} expected", bytes.size(),
                  shape.bytes);
  if (layout.encoding == Encoding::kPlanes) return unpack_planes(format, layout, shape, bytes);
  if (layout.encoding == Encoding::kE2M1Folded) return unpack_folded(layout, shape, bytes);
  UnpackedWeight out;
  out.codes.resize(static_cast<std::size_t>(shape.n * shape.k));
  out.scale_columns = layout.group > 0 ? shape.k / layout.group : 1;
  out.scales.resize(static_cast<std::size_t>(shape.n * out.scale_columns));
  for (std::int64_t row = 0; row < shape.n; ++row) {
    for (std::int64_t column = 0; column < shape.k; ++column) {
      const Place at = place_of(layout, shape, row, column);
      out.codes[static_cast<std::size_t>(row * shape.k + column)] =
          decode_bits(layout.encoding, at, load_word(bytes.data() + at.word));
    }
    float factor;
    std::memcpy(&factor, bytes.data() + shape.factor_offset + static_cast<std::size_t>(row) * sizeof(float),
                sizeof factor);
    for (std::int64_t group = 0; group < out.scale_columns; ++group) {
      float scale = layout.encoding == Encoding::kInt4 ? std::ldexp(factor, -kInt4Shift) : factor;
      if (layout.group > 0) {
        const std::byte* from = bytes.data() + scale_place(layout, shape, row, group * layout.group);
        if (layout.encoding == Encoding::kE2M1E8M0)
          scale = std::ldexp(factor, std::to_integer<int>(*from) - kE2M1Bias - 127);
        else
          scale = std::ldexp(read_scale(*format.scale, from), -kInt4Bias - kInt4Shift) * factor;
      }
      out.scales[static_cast<std::size_t>(row * out.scale_columns + group)] = scale;
    }
  }
  return out;
}

}  // namespace sabrewing::kernels::cuda
