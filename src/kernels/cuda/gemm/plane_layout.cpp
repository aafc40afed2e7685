#include "kernels/cuda/gemm/plane_layout.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>

#include "formats/numeric/bit_stream.h"
#include "kernels/cuda/gemm/source_rows.h"

namespace sabrewing::kernels::cuda {

namespace {

using formats::ElementType;
using formats::WeightFormat;
using formats::ZeroPoint;
using Scales = WeightLayout::Scales;

constexpr int kBlock = 64;  // rows and columns
constexpr int kE4M3IntegerShift = 9;
constexpr int kDoubled = -1;
// Of SignedInt4Element.
constexpr int kInt4InE4M3Shift = 8;
constexpr int kInt4InInt8Shift = -4;

ElementType operand_type(Operand operand) {
  switch (operand) {
    case Operand::kBF16:
      return formats::kBF16;
    case Operand::kFP16:
      return formats::kFP16;
    case Operand::kE4M3:
      return formats::kE4M3;
    case Operand::kE5M2:
      return formats::kE5M2;
    case Operand::kInt8:
      break;
  }
  return ElementType::integer(8);
}

int bias(ElementType type) { return (1 << (type.exponent - 1)) - 1; }

/// Bits of the widest significand.
int significant_bits(ElementType type, ZeroPoint zero) {
  if (!type.is_integer()) return type.mantissa + 1;
  return type.kind == ElementType::Kind::kInt && zero == ZeroPoint::kNone ? std::max(1, type.bits - 1)
                                                                          : type.bits;
}

bool product_rounds(const WeightFormat& format, ElementType operand) {
  if (format.zero_point == ZeroPoint::kFloat) return true;
  const int element = significant_bits(format.element, format.zero_point);
  const int scale = significant_bits(*format.scale, ZeroPoint::kNone);
  return std::min(element, scale) > 1 && element + scale > operand.mantissa + 1;
}

/// Whether products that round keep the error of a pre-scaled plan. Codes of few significant bits are often
/// powers of two, whose products do not round; FP16 rounds little.
bool rounds_seldom(const WeightFormat& format, ElementType operand) {
  if (operand != formats::kBF16) return true;
  if (format.zero_point != ZeroPoint::kNone) return false;
  return significant_bits(format.element, ZeroPoint::kNone) <= (format.element.is_integer() ? 3 : 2);
}

/// Whether the operand's type holds the scale's significands.
bool holds_scale(ElementType scale, ElementType operand) {
  return scale != formats::kFP32 && scale.mantissa <= operand.mantissa;
}

const char* operand_name(Operand operand) {
  constexpr std::array<const char*, 5> kNames{"Bf16Operand", "F16Operand", "E4M3Operand", "E5M2Operand",
                                              "Int8Operand"};
  return kNames[static_cast<std::size_t>(operand)];
}

const char* scale_name(ElementType type) {
  if (type == formats::kBF16) return "Bf16Scale";
  if (type == formats::kFP16) return "F16Scale";
  if (type == formats::kE8M0) return "E8M0Scale";
  if (type == formats::kE4M3) return "E4M3Scale";
  return "F32Scale";
}

bool is_doubled(const WeightLayout& layout, ElementType element) {
  return layout.operand == Operand::kInt8 && !element.is_integer();
}

/// Zero points are for unsigned integers, or beside 16-bit operands.
bool is_signed_int4(const WeightLayout& layout, ElementType element) {
  return operand_bytes(layout.operand) == 1 && element == ElementType::integer(4);
}

/// The bit of a code that is stored inverted: of signed integers that are decoded, so that codes count from
/// the smallest.
std::uint8_t inverted_bit(const WeightLayout& layout, ElementType type) {
  const bool inverted =
      type.kind == ElementType::Kind::kInt && !layout.swizzled && !is_signed_int4(layout, type);
  return inverted ? static_cast<std::uint8_t>(1u << (type.bits - 1)) : std::uint8_t{0};
}

/// Of a swizzled layout: byte offset of a code in its slab.
std::size_t swizzled_offset(std::int64_t row, std::int64_t column) {
  const std::int64_t r = row % kBlock, c = column % 128;
  return static_cast<std::size_t>(r * 128 + (c / 16 ^ r % 8) * 16 + c % 16);
}

std::string decoder_name(const WeightFormat& format, const WeightLayout& layout) {
  const ElementType type = format.element;
  std::string element;
  if (layout.swizzled)
    element = "OperandElement";
  else if (is_signed_int4(layout, type))
    element = "SignedInt4Element";
  else if (type.is_integer())
    element = fmt::format("IntElement<{}, {}>", type.bits, inverted_bit(layout, type));
  else if (is_doubled(layout, type))
    element = "DoubledE2M1Element";
  else
    element = fmt::format("FloatElement<{}, {}>", type.exponent, type.mantissa);
  std::string scale = layout.scales == Scales::kFactor   ? "NoScale"
                      : layout.scales == Scales::kBefore ? "ScaleBefore"
                                                         : scale_name(layout.stored_scale);
  if (layout.block_scales) scale = fmt::format("BlockScale<{}>", scale);
  const char* zeros = format.zero_point == ZeroPoint::kNone      ? "kNone"
                      : format.zero_point == ZeroPoint::kInteger ? "kInteger"
                                                                 : "kFloat";
  return fmt::format("PlaneDecoder<{}, {}, {}, {}, Zeros::{}, {}>", operand_name(layout.operand), element,
                     scale, layout.segment, zeros, layout.slab_k);
}

/// The code that is stored for each code.
std::array<std::uint8_t, 256> stored_codes(const WeightFormat& format, const WeightLayout& layout) {
  const PlaneCodes how = plane_codes(format, layout);
  const int bits = format.element.bits;
  const unsigned all = (1u << bits) - 1;
  std::array<std::uint8_t, 256> stored{};
  for (unsigned code = 0; code <= all; ++code) {
    unsigned out = code ^ how.mask;
    if (how.sign_low) out = out >> (bits - 1) != 0 ? (~out << 1 & all) | 1 : out << 1;
    stored[code] = static_cast<std::uint8_t>(out);
  }
  return stored;
}

int zero_bytes(ZeroPoint zero) { return zero == ZeroPoint::kNone ? 0 : zero == ZeroPoint::kInteger ? 1 : 2; }
int scale_bytes(const WeightLayout& layout) {
  return layout.scales == Scales::kFactor ? 0 : layout.stored_scale.bits / 8;
}
int words_for(int entries, int bytes) { return (entries * bytes + 3) / 4; }

/// One bit field of a code: its place in the block's words.
struct Field {
  std::uint16_t word;
  std::uint8_t shift;
  std::uint8_t code_shift;
  std::uint8_t mask;
};

/// The fields of every element of 16 rows by 64 columns, `planes` of them each. Sixteen further rows are
/// `32 * bits` words away.
struct FieldTable {
  int planes = 0;
  std::vector<Field> fields;  // [row][column][plane]

  FieldTable(int bits, int bytes) {
    const int lane_bits = 8 * bytes;
    for (int plane = 8; plane > 0; plane /= 2) planes += (bits & plane) != 0;
    fields.reserve(std::size_t{16} * kBlock * static_cast<std::size_t>(planes));
    for (int r = 0; r < 16; ++r)
      for (int c = 0; c < kBlock; ++c) {
        // Columns of a register's lanes, of half a step, of a step.
        const int lanes = 4 / bytes, half = 4 * lanes, step = 2 * half;
        const int lane = r % 8 * 4 + c % half / lanes;
        const int index = c / step * 4 + c % step / half * 2 + r / 8;
        int before = 0, bit = 0;
        for (int plane = 8; plane > 0; plane /= 2) {
          if ((bits & plane) == 0) continue;
          const int per = lane_bits / plane, word = index / per, piece = std::min(plane, 4);
          fields.push_back(
              {static_cast<std::uint16_t>((before + word / piece * piece) * 32 + lane * piece + word % piece),
               static_cast<std::uint8_t>(c % lanes * lane_bits + index % per * plane),
               static_cast<std::uint8_t>(bit), static_cast<std::uint8_t>((1 << plane) - 1)});
          before += plane;
          bit += plane;
        }
      }
  }
};

/// Byte offset in a row pair's entries of the one of (row, segment).
std::size_t entry_offset(const WeightLayout& layout, const PackedShape& shape, std::int64_t row,
                         std::int64_t column, int bytes, int first_word) {
  const std::int64_t slab = row / kBlock * shape.slabs + column / layout.slab_k;
  const std::int64_t r = row % kBlock;
  const std::int64_t segments = layout.slab_k / layout.segment;
  const std::int64_t entry = r % 16 / 8 * segments + column % layout.slab_k / layout.segment;
  return static_cast<std::size_t>(slab) * layout.slab_bytes() +
         static_cast<std::size_t>(layout.slab_k / kBlock * 4 * layout.words * 128 +
                                  (r / 16 * 8 + r % 8) * layout.scale_words * 4 + first_word * 4 +
                                  entry * bytes);
}

int zero_word(const WeightLayout& layout) {
  return layout.segment == 0 ? 0 : words_for(2 * layout.slab_k / layout.segment, scale_bytes(layout));
}

float read_number(ElementType type, const std::byte* from, std::int64_t index) {
  const std::size_t bytes = type.bits / 8u;
  std::uint32_t code = 0;
  std::memcpy(&code, from + static_cast<std::size_t>(index) * bytes, bytes);
  return formats::decode(type, code);
}

void write_code(std::byte* to, std::uint32_t code, int bytes) {
  std::memcpy(to, &code, static_cast<std::size_t>(bytes));
}

/// The power of two between a float's 16-bit operand and its bits placed there.
int rebias(const WeightFormat& format, ElementType operand) {
  return format.element.is_integer() || operand.is_integer() ? 0 : bias(operand) - bias(format.element);
}

/// The scales of one row, their zero points, and the power of two that a row's factor takes over.
struct RowScales {
  std::vector<float> scales;
  std::vector<float> zeros;
  int lowered = 0;
};

RowScales read_row(const WeightFormat& format, const SourceRow& row, std::int64_t number,
                   std::int64_t columns) {
  RowScales out;
  for (std::int64_t i = 0; i < columns; ++i) {
    const float scale = read_number(*format.scale, row.scales, i);
    SABREWING_CHECK(std::isfinite(scale), kCorrupt, "[pack] the scale of row {}, group {} is {}", number, i,
                    scale);
    out.scales.push_back(scale);
    if (format.zero_point == ZeroPoint::kFloat) {
      const float zero = read_number(*format.scale, row.zeros, i);
      SABREWING_CHECK(std::isfinite(zero), kCorrupt, "[pack] the zero point of row {}, group {} is {}",
                      number, i, zero);
      out.zeros.push_back(zero);
    }
  }
  if (format.zero_point == ZeroPoint::kInteger) {
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(columns));
    formats::unpack_codes({row.zeros, formats::packed_bytes(codes.size(), format.element.bits)},
                          format.element.bits, 0, codes);
    out.zeros.assign(codes.begin(), codes.end());
  }
  return out;
}

/// The smallest power of two that keeps stored scales, zero points and products in the operand's range; the
/// largest products at the top of FP16's range, whose smallest numbers are near.
int lowered_exponent(const WeightFormat& format, ElementType operand, const RowScales& row) {
  float scale = 0, zero = 0;
  for (const float s : row.scales) scale = std::fmax(scale, std::fabs(s));
  if (format.zero_point == ZeroPoint::kFloat)
    for (const float z : row.zeros) zero = std::fmax(zero, std::fabs(z));
  if (scale == 0 && zero == 0) return 0;
  const int largest = operand == formats::kBF16 ? 127 : 15;
  const float top =
      format.element.is_integer() ? std::ldexp(1.0f, format.element.bits) : max_value(format.element);
  int lowered = operand == formats::kBF16 ? 0 : -1000;
  if (scale > 0)
    lowered = std::max({lowered, std::ilogb(scale) + rebias(format, operand) - largest,
                        std::ilogb(scale) + std::ilogb(top) + 1 - (largest - 1)});
  if (zero > 0) lowered = std::max(lowered, std::ilogb(zero) - (largest - 2));
  return lowered;
}

std::uint32_t exact_code(ElementType type, float value, int exponent, std::int64_t row) {
  const double scaled = std::ldexp(static_cast<double>(value), exponent);
  const std::uint32_t code = formats::encode(type, scaled);
  SABREWING_CHECK(
      static_cast<double>(formats::decode(type, code)) == scaled, kUnsupported,
      "[pack] row {}: its scales are too far apart for {} weights: use accuracy high, which keeps "
      "them in FP32",
      row, formats::to_string(type));
  return code;
}

}  // namespace

WeightLayout plane_layout(const WeightFormat& format, Operand operand, Accuracy accuracy) {
  const ElementType type = operand_type(operand);
  const bool wide = operand_bytes(operand) == 2;
  WeightLayout layout;
  layout.encoding = WeightLayout::Encoding::kPlanes;
  layout.operand = operand;
  layout.words = format.element.bits;
  layout.swizzled = !wide && format.element.bits == 8;
  layout.group = static_cast<int>(format.block.k);
  const bool float_zero = format.zero_point == ZeroPoint::kFloat;
  // One row of blocks as high as the matrix is a group; blocks of the whole of K are factors.
  if (layout.group == 0 && !float_zero) {
    layout.scales = Scales::kFactor;
  } else if (const bool rounds = product_rounds(format, type);
             wide && (operand == Operand::kFP16
                          ? float_zero || (holds_scale(*format.scale, type) && accuracy == Accuracy::kDefault)
                          : holds_scale(*format.scale, type) && (!rounds || (accuracy == Accuracy::kDefault &&
                                                                             rounds_seldom(format, type))))) {
    // FP16's range is short, so high accuracy keeps its scales out.
    layout.scales = Scales::kBefore;
    layout.stored_scale = type;
    layout.pre_scaled = rounds;
  } else {
    layout.scales = Scales::kAfter;
    layout.stored_scale = *format.scale;
    layout.zero_after = float_zero;
  }
  const bool in_slab = layout.scales != Scales::kFactor || format.zero_point != ZeroPoint::kNone;
  layout.slab_k = wide && !(in_slab && layout.group > 0 && layout.group % 128 == 0) ? 64 : 128;
  if (in_slab) layout.segment = layout.group == 0 ? layout.slab_k : std::gcd(layout.group, layout.slab_k);
  if (layout.segment > 0)
    layout.scale_words =
        zero_word(layout) + words_for(2 * layout.slab_k / layout.segment, zero_bytes(format.zero_point));
  if (!wide) {
    if (is_signed_int4(layout, format.element))
      layout.ledger = operand == Operand::kE4M3 ? kInt4InE4M3Shift : kInt4InInt8Shift;
    else if (format.element.is_integer())
      layout.ledger = operand == Operand::kE4M3 ? kE4M3IntegerShift : 0;
    else
      layout.ledger = is_doubled(layout, format.element) ? kDoubled : bias(type) - bias(format.element);
  }
  layout.block_scales = layout.scales == Scales::kAfter && format.block.n > 0 && format.block.n % 64 == 0;
  (layout.scales == Scales::kAfter ? layout.decoder_after : layout.decoder) = decoder_name(format, layout);
  return layout;
}

PlaneCodes plane_codes(const WeightFormat& format, const WeightLayout& layout) {
  return {inverted_bit(layout, format.element),
          is_signed_int4(layout, format.element) && layout.operand == Operand::kE4M3,
          rebias(format, operand_type(layout.operand)), zero_word(layout)};
}

void pack_planes(const WeightSource& source, const WeightLayout& layout, PackedHostWeight& packed) {
  const WeightFormat& format = source.format;
  const PackedShape& shape = packed.shape;
  const ElementType type = operand_type(layout.operand);
  const int bits = format.element.bits;
  const FieldTable table(bits, operand_bytes(layout.operand));
  const auto columns = static_cast<std::int64_t>(format.scale_grid(1, shape.k).k);
  const int exponent = rebias(format, type);
  std::array<bool, 256> finite{};
  for (std::uint32_t code = 0; code < (1u << bits); ++code)
    finite[code] = std::isfinite(formats::decode(format.element, code));
  const std::array<std::uint8_t, 256> stored_of = stored_codes(format, layout);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(shape.k));
  std::vector<float> factors(static_cast<std::size_t>(shape.row_blocks * kBlock), 1.0f);
  SourceRows rows(source);
  for (std::int64_t row = 0; row < shape.n; ++row) {
    const SourceRow from = rows.row(row);
    formats::unpack_codes({from.values, formats::packed_bytes(codes.size(), bits)}, bits, 0, codes);
    std::byte* const row_block =
        packed.bytes.data() + static_cast<std::size_t>(row / kBlock * shape.slabs) * layout.slab_bytes();
    const auto strip = static_cast<std::size_t>(row % kBlock / 16 * 32 * bits);
    const Field* const row_fields = table.fields.data() + row % 16 * kBlock * table.planes;
    bool all_finite = true;
    for (std::int64_t block = 0; block < shape.k; block += kBlock) {
      std::byte* const slab =
          row_block + static_cast<std::size_t>(block / layout.slab_k) * layout.slab_bytes();
      const std::int64_t end = std::min<std::int64_t>(kBlock, shape.k - block);
      if (layout.swizzled) {
        for (std::int64_t column = block; column < block + end; ++column) {
          const std::uint8_t code = codes[static_cast<std::size_t>(column)];
          all_finite &= finite[code];
          slab[swizzled_offset(row, column)] = static_cast<std::byte>(stored_of[code]);
        }
        continue;
      }
      const std::int64_t in_slab = block % layout.slab_k / kBlock;
      std::byte* const to = slab + (static_cast<std::size_t>(in_slab * 4 * 32 * bits) + strip) * 4;
      const Field* field = row_fields;
      for (std::int64_t c = 0; c < end; ++c) {
        const std::uint8_t code = codes[static_cast<std::size_t>(block + c)];
        all_finite &= finite[code];
        const std::uint8_t stored = stored_of[code];
        for (int p = 0; p < table.planes; ++p, ++field) {
          std::uint32_t word;
          std::memcpy(&word, to + field->word * 4, 4);
          word |= static_cast<std::uint32_t>(stored >> field->code_shift & field->mask) << field->shift;
          std::memcpy(to + field->word * 4, &word, 4);
        }
      }
    }
    SABREWING_CHECK(all_finite, kCorrupt, "[pack] row {} holds a weight that is NaN or infinite", row);

    RowScales scales = read_row(format, from, row, columns);
    double factor = std::ldexp(static_cast<double>(source.second_scale), layout.ledger);
    if (layout.scales == Scales::kFactor) factor *= static_cast<double>(scales.scales[0]);
    if (layout.scales == Scales::kBefore) {
      scales.lowered = lowered_exponent(format, type, scales);
      factor = std::ldexp(factor, scales.lowered);
    }
    for (std::int64_t column = 0; layout.segment > 0 && column < shape.k; column += layout.segment) {
      const auto index = static_cast<std::size_t>(layout.group == 0 ? 0 : column / layout.group);
      if (layout.scales != Scales::kFactor) {
        const int bytes = scale_bytes(layout);
        const bool before = layout.scales == Scales::kBefore;
        write_code(packed.bytes.data() + entry_offset(layout, shape, row, column, bytes, 0),
                   exact_code(layout.stored_scale, scales.scales[index],
                              before ? exponent - scales.lowered : 0, row),
                   bytes);
      }
      if (format.zero_point != ZeroPoint::kNone) {
        const int bytes = zero_bytes(format.zero_point);
        write_code(packed.bytes.data() + entry_offset(layout, shape, row, column, bytes, zero_word(layout)),
                   format.zero_point == ZeroPoint::kInteger
                       ? static_cast<std::uint32_t>(scales.zeros[index])
                       : exact_code(type, scales.zeros[index], -scales.lowered, row),
                   bytes);
      }
    }
    factors[static_cast<std::size_t>(row)] = static_cast<float>(factor);
    SABREWING_CHECK(std::isfinite(factors[static_cast<std::size_t>(row)]), kCorrupt,
                    "[pack] the scales of row {} overflow FP32", row);
    packed.has_factors |= factors[static_cast<std::size_t>(row)] != 1.0f;
  }
  std::memcpy(packed.bytes.data() + shape.factor_offset, factors.data(), factors.size() * sizeof(float));
}

UnpackedWeight unpack_planes(const WeightFormat& format, const WeightLayout& layout, const PackedShape& shape,
                             std::span<const std::byte> bytes) {
  const ElementType type = operand_type(layout.operand);
  const int bits = format.element.bits;
  const FieldTable table(bits, operand_bytes(layout.operand));
  const std::array<std::uint8_t, 256> stored_of = stored_codes(format, layout);
  std::array<std::uint8_t, 256> code_of{};
  for (unsigned code = 0; code < (1u << bits); ++code)
    code_of[stored_of[code]] = static_cast<std::uint8_t>(code);
  UnpackedWeight out;
  out.codes.resize(static_cast<std::size_t>(shape.n * shape.k));
  out.scale_columns = format.scale_grid(1, shape.k).k;
  for (std::int64_t row = 0; row < shape.n; ++row) {
    for (std::int64_t column = 0; column < shape.k; ++column) {
      const std::int64_t slab_index = row / kBlock * shape.slabs + column / layout.slab_k;
      const std::byte* const slab = bytes.data() + static_cast<std::size_t>(slab_index) * layout.slab_bytes();
      const std::byte* const block =
          slab +
          static_cast<std::size_t>((column % layout.slab_k / kBlock * 4 + row % kBlock / 16) * 32 * bits * 4);
      std::uint8_t stored = 0;
      if (layout.swizzled) stored = std::to_integer<std::uint8_t>(slab[swizzled_offset(row, column)]);
      for (int p = 0; p < (layout.swizzled ? 0 : table.planes); ++p) {
        const Field& field =
            table.fields[static_cast<std::size_t>((row % 16 * kBlock + column % kBlock) * table.planes + p)];
        std::uint32_t word;
        std::memcpy(&word, block + field.word * 4, 4);
        stored = static_cast<std::uint8_t>(stored | (word >> field.shift & field.mask) << field.code_shift);
      }
      out.codes[static_cast<std::size_t>(row * shape.k + column)] = code_of[stored];
    }
    float factor;
    std::memcpy(&factor, bytes.data() + shape.factor_offset + static_cast<std::size_t>(row) * sizeof(float),
                sizeof factor);
    for (std::int64_t block = 0; block < out.scale_columns; ++block) {
      const std::int64_t column = block * layout.group;
      float scale = std::ldexp(factor, -layout.ledger);
      if (layout.scales != Scales::kFactor) {
        const std::byte* from =
            bytes.data() + entry_offset(layout, shape, row, column, scale_bytes(layout), 0);
        const int exponent = layout.scales == Scales::kBefore ? rebias(format, type) : 0;
        scale *= std::ldexp(read_number(layout.stored_scale, from, 0), -exponent);
      }
      out.scales.push_back(scale);
      if (format.zero_point == ZeroPoint::kNone) continue;
      const int width = zero_bytes(format.zero_point);
      const std::byte* from =
          bytes.data() + entry_offset(layout, shape, row, column, width, zero_word(layout));
      out.zeros.push_back(format.zero_point == ZeroPoint::kInteger
                              ? static_cast<float>(std::to_integer<int>(*from))
                              : read_number(type, from, 0) * factor);
    }
  }
  return out;
}

}  // namespace sabrewing::kernels::cuda
