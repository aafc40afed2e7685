// The device text of the decoders, compiled for the host and run on packed weights: every code of every
// format has to come out as the operand that formats/numeric gives.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <map>
#include <type_traits>

#include "formats/numeric/bit_stream.h"
#include "formats/numeric/element_type.h"
#include "kernels/cuda/bench/random_weight.h"
#include "kernels/cuda/gemm/weight_layout.h"

// clang-format off: device text needs the shim before it.
#include "device_shim.h"
#include "kernels/cuda/device/decode.cuh"
#include "kernels/cuda/device/decode_planes.cuh"
// clang-format on

namespace sabrewing::kernels::cuda {
namespace {

using formats::ElementType;
using formats::ZeroPoint;

/// One decoder of the device text behind plain functions.
struct HostDecoder {
  int bytes, slab_k, words, scale_words, segment;
  bool after;
  void (*decode)(const std::uint32_t* words, const std::uint32_t* scales, int step, std::uint32_t (&a)[4]);
  float (*scale)(const std::uint32_t* scales, int half, int segment);
  float (*zero)(const std::uint32_t* scales, int half, int segment);
};

template <typename Decoder>
constexpr HostDecoder host_decoder() {
  HostDecoder d{2,      Decoder::kSlabK,      Decoder::kWords,  Decoder::kScaleWords,
                0,      Decoder::kScaleAfter, &Decoder::decode, nullptr,
                nullptr};
  if constexpr (requires { Decoder::kSegment; }) {
    d.bytes = Decoder::kBytes;
    d.segment = Decoder::kSegment;
    if constexpr (Decoder::kScaleAfter) d.scale = &Decoder::scale;
    if constexpr (Decoder::kZeroAfter) d.zero = &Decoder::zero;
  }
  return d;
}

using Registry = std::map<std::string, HostDecoder>;

template <typename Operand, typename Element, typename Scale, int kColumns, device::Zeros kZeros, int kSlab>
void add(Registry& all, const std::string& operand, const std::string& element, const std::string& scale) {
  constexpr const char* kNames[] = {"kNone", "kInteger", "kFloat"};
  all.emplace(fmt::format("PlaneDecoder<{}, {}, {}, {}, Zeros::{}, {}>", operand, element, scale, kColumns,
                          kNames[static_cast<int>(kZeros)], kSlab),
              host_decoder<device::PlaneDecoder<Operand, Element, Scale, kColumns, kZeros, kSlab>>());
}

/// Signed integers of 4 bits beside 8-bit operands, with the scales of published formats.
template <typename Operand>
void add_signed_int4(Registry& all, const std::string& operand) {
  using namespace device;
  const std::string element = "SignedInt4Element";
  add_scales<Operand, SignedInt4Element>(all, operand, element);
  add<Operand, SignedInt4Element, Bf16Scale, 64, Zeros::kNone, 128>(all, operand, element, "Bf16Scale");
  add<Operand, SignedInt4Element, Bf16Scale, 128, Zeros::kNone, 128>(all, operand, element, "Bf16Scale");
  add<Operand, SignedInt4Element, F16Scale, 128, Zeros::kNone, 128>(all, operand, element, "F16Scale");
  add<Operand, SignedInt4Element, E4M3Scale, 32, Zeros::kNone, 128>(all, operand, element, "E4M3Scale");
  add<Operand, SignedInt4Element, E8M0Scale, 64, Zeros::kNone, 128>(all, operand, element, "E8M0Scale");
}

/// Without scales in the slab, and with groups of 64 and 32 columns before and after the sums.
template <typename Operand, typename Element>
void add_scales(Registry& all, const std::string& operand, const std::string& element) {
  using namespace device;
  constexpr int kSlab = Operand::kBytes == 2 ? 64 : 128;
  add<Operand, Element, NoScale, 0, Zeros::kNone, kSlab>(all, operand, element, "NoScale");
  add<Operand, Element, F32Scale, 32, Zeros::kNone, kSlab>(all, operand, element, "F32Scale");
  if constexpr (Operand::kBytes == 2)
    add<Operand, Element, ScaleBefore, 32, Zeros::kNone, kSlab>(all, operand, element, "ScaleBefore");
  if constexpr (std::is_same_v<Operand, Bf16Operand>)
    add<Operand, Element, Bf16Scale, 32, Zeros::kNone, kSlab>(all, operand, element, "Bf16Scale");
}

/// Groups of 16 with zero points: FP16 takes their scales before the sums, BF16 after.
template <typename Operand, typename Element, device::Zeros kZeros>
void add_zeros(Registry& all, const std::string& operand, const std::string& element) {
  using namespace device;
  // Of one bit minus a zero point, products are exact.
  if constexpr (std::is_same_v<Operand, F16Operand> || (Element::kBits == 1 && kZeros == Zeros::kInteger))
    add<Operand, Element, ScaleBefore, 16, kZeros, 64>(all, operand, element, "ScaleBefore");
  else
    add<Operand, Element, Bf16Scale, 16, kZeros, 64>(all, operand, element, "Bf16Scale");
}

template <typename Operand, int kBits, int kZero>
void add_integer(Registry& all, const std::string& operand) {
  using namespace device;
  constexpr int kSlab = Operand::kBytes == 2 ? 64 : 128;
  using Element = IntElement<kBits, kZero>;
  const std::string element = fmt::format("IntElement<{}, {}>", kBits, kZero);
  add_scales<Operand, Element>(all, operand, element);
  if constexpr (kZero == 0) {
    add<Operand, Element, F32Scale, 32, Zeros::kInteger, kSlab>(all, operand, element, "F32Scale");
    add<Operand, Element, NoScale, kSlab, Zeros::kInteger, kSlab>(all, operand, element, "NoScale");
    if constexpr (Operand::kBytes == 2) add_zeros<Operand, Element, Zeros::kInteger>(all, operand, element);
  }
  if constexpr (Operand::kBytes == 2) add_zeros<Operand, Element, Zeros::kFloat>(all, operand, element);
}

template <int kBits>
void add_integers(Registry& all) {
  using namespace device;
  constexpr int kHalf = 1 << (kBits - 1);
  add_integer<Bf16Operand, kBits, kHalf>(all, "Bf16Operand");
  add_integer<Bf16Operand, kBits, 0>(all, "Bf16Operand");
  add_integer<F16Operand, kBits, kHalf>(all, "F16Operand");
  add_integer<F16Operand, kBits, 0>(all, "F16Operand");
  if constexpr (kBits != 4 && kBits != 8) add_integer<Int8Operand, kBits, kHalf>(all, "Int8Operand");
  if constexpr (kBits <= 7) add_integer<Int8Operand, kBits, 0>(all, "Int8Operand");
  if constexpr (kBits <= 5 && kBits != 4) add_integer<E4M3Operand, kBits, kHalf>(all, "E4M3Operand");
  if constexpr (kBits <= 4) add_integer<E4M3Operand, kBits, 0>(all, "E4M3Operand");
  if constexpr (kBits < 8) add_integers<kBits + 1>(all);
}

template <int kExponent, int kMantissa>
void add_minifloats(Registry& all) {
  using namespace device;
  using Element = FloatElement<kExponent, kMantissa>;
  const std::string element = fmt::format("FloatElement<{}, {}>", kExponent, kMantissa);
  add_scales<Bf16Operand, Element>(all, "Bf16Operand", element);
  constexpr bool kIsE5M2 = kExponent == 5 && kMantissa == 2;
  if constexpr (kExponent <= 4 || kIsE5M2) add_scales<F16Operand, Element>(all, "F16Operand", element);
  if constexpr (kExponent <= 4 && kMantissa <= 3 && kExponent + kMantissa < 7)
    add_scales<E4M3Operand, Element>(all, "E4M3Operand", element);
  if constexpr (kExponent + kMantissa < 7) add_minifloats<kExponent, kMantissa + 1>(all);
  if constexpr (kMantissa == 0 && kExponent < 7) add_minifloats<kExponent + 1, 0>(all);
}

const Registry& registry() {
  static const Registry kAll = [] {
    using namespace device;
    Registry all;
    add_integers<1>(all);
    add_minifloats<2, 0>(all);
    add_minifloats<1, 1>(all);
    add_scales<Int8Operand, DoubledE2M1Element>(all, "Int8Operand", "DoubledE2M1Element");
    // The other scale types and widths of segments.
    using E2M1 = FloatElement<2, 1>;
    add<Bf16Operand, E2M1, ScaleBefore, 16, Zeros::kNone, 64>(all, "Bf16Operand", "FloatElement<2, 1>",
                                                              "ScaleBefore");
    add<F16Operand, E2M1, ScaleBefore, 16, Zeros::kNone, 64>(all, "F16Operand", "FloatElement<2, 1>",
                                                             "ScaleBefore");
    add<E4M3Operand, E2M1, E8M0Scale, 32, Zeros::kNone, 128>(all, "E4M3Operand", "FloatElement<2, 1>",
                                                             "E8M0Scale");
    add<Int8Operand, DoubledE2M1Element, E8M0Scale, 32, Zeros::kNone, 128>(all, "Int8Operand",
                                                                           "DoubledE2M1Element", "E8M0Scale");
    using Int4 = IntElement<4, 8>;
    add<Bf16Operand, Int4, F16Scale, 16, Zeros::kNone, 64>(all, "Bf16Operand", "IntElement<4, 8>",
                                                           "F16Scale");
    add<Bf16Operand, Int4, F16Scale, 128, Zeros::kNone, 128>(all, "Bf16Operand", "IntElement<4, 8>",
                                                             "F16Scale");
    add<Bf16Operand, Int4, ScaleBefore, 16, Zeros::kNone, 64>(all, "Bf16Operand", "IntElement<4, 8>",
                                                              "ScaleBefore");
    add<Bf16Operand, Int4, ScaleBefore, 64, Zeros::kNone, 64>(all, "Bf16Operand", "IntElement<4, 8>",
                                                              "ScaleBefore");
    add<Bf16Operand, Int4, E4M3Scale, 64, Zeros::kNone, 64>(all, "Bf16Operand", "IntElement<4, 8>",
                                                            "E4M3Scale");
    add_signed_int4<E4M3Operand>(all, "E4M3Operand");
    add_signed_int4<Int8Operand>(all, "Int8Operand");
    add_scales<E4M3Operand, OperandElement>(all, "E4M3Operand", "OperandElement");
    add_scales<E5M2Operand, OperandElement>(all, "E5M2Operand", "OperandElement");
    add_scales<Int8Operand, OperandElement>(all, "Int8Operand", "OperandElement");
    add<E4M3Operand, OperandElement, BlockScale<F32Scale>, 128, Zeros::kNone, 128>(
        all, "E4M3Operand", "OperandElement", "BlockScale<F32Scale>");
    add<Bf16Operand, FloatElement<4, 3>, BlockScale<F32Scale>, 128, Zeros::kNone, 128>(
        all, "Bf16Operand", "FloatElement<4, 3>", "BlockScale<F32Scale>");
    add<Bf16Operand, FloatElement<4, 3>, ScaleBefore, 128, Zeros::kNone, 128>(
        all, "Bf16Operand", "FloatElement<4, 3>", "ScaleBefore");
    add<Int8Operand, IntElement<4, 0>, F16Scale, 64, Zeros::kInteger, 128>(all, "Int8Operand",
                                                                           "IntElement<4, 0>", "F16Scale");
    all.emplace("E2M1E8M0ToBf16", host_decoder<E2M1E8M0ToBf16>());
    all.emplace("E4M3ToBf16", host_decoder<E4M3ToBf16>());
    all.emplace("E2M1FoldedToE4M3", host_decoder<E2M1FoldedToE4M3>());
    all.emplace("Int4ToBf16<0, false>", host_decoder<Int4ToBf16<0, false>>());
    all.emplace("Int4ToBf16<64, false>", host_decoder<Int4ToBf16<64, false>>());
    all.emplace("Int4ToBf16<128, true>", host_decoder<Int4ToBf16<128, true>>());
    return all;
  }();
  return kAll;
}

ElementType operand_type(Operand operand) {
  constexpr ElementType kTypes[] = {formats::kBF16, formats::kFP16, formats::kE4M3, formats::kE5M2,
                                    ElementType::integer(8)};
  return kTypes[static_cast<int>(operand)];
}

/// Decodes all of a packed weight and compares each number with the definition.
void expect_decoded(const RandomWeight& weight, const WeightLayout& layout, bool after) {
  const std::string& name = after ? layout.decoder_after : layout.decoder;
  const auto found = registry().find(name);
  ASSERT_NE(found, registry().end()) << "no host decoder " << name;
  const HostDecoder& d = found->second;
  ASSERT_EQ(d.bytes, operand_bytes(layout.operand));
  ASSERT_EQ(d.slab_k, layout.slab_k);
  ASSERT_EQ(d.words, layout.words);
  ASSERT_EQ(d.scale_words, layout.scale_words);
  ASSERT_EQ(d.after, after);
  const ElementType operand = operand_type(layout.operand);
  const PackedHostWeight packed = pack_weight(weight.source(), layout);
  const int lanes = 4 / d.bytes, step_columns = 32 / d.bytes;
  for (std::int64_t row_block = 0; row_block < packed.shape.row_blocks; ++row_block)
    for (std::int64_t slab = 0; slab < packed.shape.slabs; ++slab) {
      const std::byte* base =
          packed.bytes.data() +
          static_cast<std::size_t>(row_block * packed.shape.slabs + slab) * layout.slab_bytes();
      for (int warp = 0; warp < 4; ++warp)
        for (int lane = 0; lane < 32; ++lane) {
          std::uint32_t words[16], scales[40];
          // As an instruction reads operands: register i of step j of the lane in the swizzled rows.
          for (int word = 0; word < (layout.swizzled ? 16 : 0); ++word) {
            const int row = warp * 16 + lane / 4 + 8 * (word & 1), part = word / 2;
            std::memcpy(words + word, base + row * 128 + (part ^ row % 8) * 16 + lane % 4 * 4, 4);
          }
          for (int block = 0; block < (layout.swizzled ? 0 : d.slab_k / 64); ++block)
            device::for_each_piece(d.words, [&](int count, int first) {
              std::memcpy(words + block * d.words + first,
                          base + ((block * 4 + warp) * d.words + first) * 128 + lane * count * 4,
                          static_cast<std::size_t>(count) * 4);
            });
          std::memcpy(scales,
                      base + d.slab_k / 64 * 4 * d.words * 128 + (warp * 8 + lane / 4) * d.scale_words * 4,
                      static_cast<std::size_t>(d.scale_words) * 4);
          for (int step = 0; step < d.slab_k / step_columns; ++step) {
            std::uint32_t a[4];
            d.decode(words, scales, step, a);
            for (int i = 0; i < 4; ++i)
              for (int l = 0; l < lanes; ++l) {
                const std::int64_t row = row_block * 64 + warp * 16 + lane / 4 + 8 * (i & 1);
                const std::int64_t column = slab * d.slab_k + step * step_columns +
                                            (i >> 1) * (step_columns / 2) + lane % 4 * lanes + l;
                if (row >= weight.n || column >= weight.k) continue;
                float factor;
                std::memcpy(
                    &factor,
                    packed.bytes.data() + packed.shape.factor_offset + static_cast<std::size_t>(row) * 4, 4);
                const std::uint32_t code = a[i] >> (l * 32 / lanes) & (lanes == 2 ? 0xffffu : 0xffu);
                const float got = formats::decode(operand, code);
                const std::int64_t group = weight.group_of(column);
                const double scale = weight.scale(row, group);
                // What remains for the operand when the factor and scales after the sums are taken away.
                double share = 1.0 / factor;
                if (after) {
                  const double own =
                      d.scale != nullptr
                          ? d.scale(
                                scales, i & 1,
                                d.segment < d.slab_k ? static_cast<int>(column % d.slab_k) / d.segment : 0)
                      : (i & 1) != 0 ? device::Int4ToBf16<128, true>::scale_high(scales)
                                     : device::Int4ToBf16<128, true>::scale_low(scales);
                  ASSERT_EQ(own * factor * std::ldexp(1.0, -layout.ledger) *
                                (layout.encoding == WeightLayout::Encoding::kInt4 ? 0.0625 : 1.0),
                            scale)
                      << name << " row " << row << " column " << column;
                  share = 1.0 / (own * factor);
                  if (d.zero != nullptr) {
                    ASSERT_EQ(d.zero(scales, i & 1, static_cast<int>(column % d.slab_k) / d.segment) * factor,
                              weight.zero(row, group))
                        << name << " row " << row << " column " << column;
                  }
                }
                // Scales before the sums round the product once; elsewhere everything is exact.
                const double expected = weight.value(row, column) * share;
                const double exact =
                    after || layout.group == 0
                        ? std::ldexp(formats::decode(weight.format.element, weight.code(row, column)) -
                                         (d.zero != nullptr ? 0 : weight.zero(row, group)),
                                     -layout.ledger)
                        : expected;
                if (layout.encoding != WeightLayout::Encoding::kPlanes) {
                  const double rounded = formats::decode(operand, formats::encode(operand, expected));
                  ASSERT_EQ(static_cast<double>(got), rounded)
                      << name << " row " << row << " column " << column;
                  if (layout.encoding == WeightLayout::Encoding::kE2M1Folded) {
                    ASSERT_EQ(rounded, expected) << "row " << row << " column " << column;
                  }
                  continue;
                }
                ASSERT_EQ(got, formats::decode(operand, formats::encode(operand, exact)))
                    << name << " " << formats::to_string(weight.format) << " row " << row << " column "
                    << column << " code " << static_cast<int>(weight.code(row, column)) << " zero "
                    << weight.zero(row, group);
                if (!layout.pre_scaled) {
                  ASSERT_EQ(static_cast<double>(got), exact)
                      << name << " row " << row << " column " << column;
                }
              }
          }
        }
    }
}

/// Every code in each row, in turn at every place of a block.
RandomWeight all_codes(const formats::WeightFormat& format, std::int64_t k) {
  RandomWeight weight(format, 70, k, 3);
  const int bits = format.element.bits;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(k));
  for (std::int64_t row = 0; row < weight.n; ++row) {
    for (std::int64_t c = 0; c < k; ++c) {
      auto code = static_cast<std::uint32_t>(c + 37 * row) & ((1u << bits) - 1);
      if (!std::isfinite(formats::decode(format.element, code))) code = 0;
      codes[static_cast<std::size_t>(c)] = static_cast<std::uint8_t>(code);
    }
    formats::pack_codes(
        codes, bits,
        {weight.values.data() + row * weight.row_bytes, static_cast<std::size_t>(weight.row_bytes)});
  }
  return weight;
}

class DecoderText : public ::testing::TestWithParam<const char*> {};

TEST_P(DecoderText, GivesEveryCodeOfEveryFormat) {
  const formats::ActivationFormat activation = activation_by_name(GetParam());
  int formats_run = 0;
  const auto run = [&](ElementType element, ZeroPoint zero, formats::BlockShape block, ElementType scale,
                       Accuracy accuracy) {
    formats::WeightFormat format = formats::WeightFormat::scaled(element, block, scale);
    format.zero_point = zero;
    if (!can_lay_out(format, activation)) return;
    const WeightLayout layout = weight_layout(format, activation, accuracy);
    // A number of columns that ends inside a slab, but at a group's end.
    expect_decoded(all_codes(format, (element.bits == 8 ? 320 : 128) + (block.k == 0 ? 10 : 32)), layout,
                   layout.decoder.empty());
    ++formats_run;
  };
  std::vector<ElementType> elements;
  for (int bits = 1; bits <= 8; ++bits) {
    elements.push_back(ElementType::integer(bits));
    elements.push_back(ElementType::unsigned_integer(bits));
    for (int exponent = 1; bits >= 3 && exponent < bits; ++exponent)
      elements.push_back(ElementType::minifloat(exponent, bits - 1 - exponent));
  }
  const ElementType half = activation.element == formats::kFP16 ? formats::kFP16 : formats::kBF16;
  for (const ElementType element : elements) {
    run(element, ZeroPoint::kNone, {1, 0}, formats::kFP32, Accuracy::kDefault);
    run(element, ZeroPoint::kNone, {1, 32}, formats::kFP32, Accuracy::kDefault);
    if (operand_bytes(
            weight_operand(formats::WeightFormat::scaled(element, {1, 32}, half), activation).operand) == 2) {
      run(element, ZeroPoint::kNone, {1, 32}, half, Accuracy::kDefault);
      run(element, ZeroPoint::kInteger, {1, 16}, half, Accuracy::kDefault);
      run(element, ZeroPoint::kFloat, {1, 16}, half, Accuracy::kDefault);
    }
    run(element, ZeroPoint::kInteger, {1, 32}, formats::kFP32, Accuracy::kDefault);
    run(element, ZeroPoint::kInteger, {1, 0}, formats::kFP32, Accuracy::kDefault);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(formats_run, 25);
}

INSTANTIATE_TEST_SUITE_P(Cuda, DecoderText, ::testing::Values("bf16", "fp16", "fp8", "fp8e5m2", "int8"),
                         [](const auto& test) { return test.param; });

struct Pair {
  const char* format;
  const char* activation;
  std::int64_t k;
  Accuracy accuracy = Accuracy::kDefault;
};

TEST(DecoderTextFormats, GiveThePublishedFormats) {
  for (const Pair& pair : {Pair{"mxfp4", "bf16", 160},
                           {"mxfp4", "fp16", 160},
                           {"mxfp4", "fp8", 160},
                           {"mxfp4", "fp8", 160, Accuracy::kHigh},
                           {"mxfp4", "mxfp8", 416},
                           {"mxfp4", "int8", 160},
                           {"nvfp4", "bf16", 176},
                           {"nvfp4", "fp16", 176},
                           {"fp8row", "bf16", 100},
                           {"fp8block", "bf16", 300},
                           {"fp8block", "fp8", 300},
                           {"fp8block", "bf16", 300, Accuracy::kHigh},
                           {"int4row", "bf16", 100},
                           {"int4g64", "bf16", 192},
                           {"int4g128", "bf16", 384, Accuracy::kHigh},
                           {"int4g128", "fp8", 384},
                           {"int4g128", "int8", 384},
                           {"int4g128", "int4", 384},
                           {"int4g64", "fp8", 192},
                           {"int4g64", "fp8e5m2", 192},
                           {"int4g64", "int8", 192},
                           {"int4g64", "fp4g128", 384},
                           {"int4row", "fp8", 100},
                           {"int4row", "int8", 100},
                           {"int4:g128:fp16", "fp8", 256},
                           {"int4:g128:fp16", "int8", 256},
                           {"int4:g32:float8e4m3", "fp8", 96},
                           {"int4:g32:float8e4m3", "int8", 96},
                           {"int4:g64:float8e8m0", "fp8", 192},
                           {"int4:g64:float8e8m0", "int8", 192},
                           {"int4:g128:fp16", "bf16", 256},
                           {"int4:g16:fp16", "bf16", 80},
                           {"int4:g48:bf16", "bf16", 144},
                           {"int4:g64:e4m3", "bf16", 192, Accuracy::kHigh},
                           {"uint4:g64:fp16:zp", "int8", 192}}) {
    SCOPED_TRACE(std::string(pair.format) + " by " + pair.activation);
    const std::string name =
        std::string(pair.format) == "int4:g64:e4m3" ? "int4:g64:float8e4m3" : pair.format;
    const formats::WeightFormat format = format_by_name(name);
    const WeightLayout layout = weight_layout(format, activation_by_name(pair.activation), pair.accuracy);
    expect_decoded(
        all_codes(format, pair.k), layout,
        layout.decoder.empty() || (pair.accuracy == Accuracy::kHigh && !layout.decoder_after.empty()));
    if (HasFatalFailure()) return;
  }
}

/// Puts every stored code at every place of a word, among neighbours of every code.
template <typename Operand>
void expect_signed_int4(ElementType type, const std::array<int, 16>& value_of_stored, double unit) {
  using Decoder =
      device::PlaneDecoder<Operand, device::SignedInt4Element, device::NoScale, 0, device::Zeros::kNone, 128>;
  for (int place = 0; place < 8; ++place)
    for (std::uint32_t code = 0; code < 16; ++code)
      for (std::uint32_t other = 0; other < 16; ++other) {
        const std::uint32_t word = ((other * 0x11111111u) & ~(15u << (4 * place))) | code << (4 * place);
        const std::uint32_t words[4] = {word, word, word, word};
        std::uint32_t a[4];
        Decoder::decode(words, nullptr, 0, a);
        for (int i = 0; i < 4; ++i)
          for (int lane = 0; lane < 4; ++lane) {
            const std::uint32_t stored = lane * 2 + i % 2 == place ? code : other;
            ASSERT_EQ(formats::decode(type, a[i] >> (8 * lane) & 0xff), value_of_stored[stored] * unit)
                << "stored " << stored << " register " << i << " lane " << lane << " word " << std::hex
                << word;
          }
      }
}

TEST(DecoderTextFormats, GiveEverySignedInt4AtEveryPlaceOfAWord) {
  expect_signed_int4<device::E4M3Operand>(formats::kE4M3,
                                          {0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, -6, 6, -7, 7, -8}, 0x1p-8);
  expect_signed_int4<device::Int8Operand>(ElementType::integer(8),
                                          {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1}, 16);
}

TEST(DecoderTextFormats, GiveEveryCodeAtEveryDistanceFromTheLargestExponent) {
  const formats::ActivationFormat fp8 = activation_by_name("fp8");
  RandomWeight weight = all_codes(formats::WeightFormat::mxfp4(), 13 * 32);
  const auto zeros = [&](std::int64_t row, std::int64_t group, std::byte codes) {
    std::fill_n(weight.values.begin() + row * weight.row_bytes + group * 16, 16, codes);
  };
  for (std::int64_t row = 0; row < weight.n; ++row) {
    // Both ends of E8M0, and exponents between them.
    const int largest = row % 3 == 0 ? 254 : row % 3 == 1 ? static_cast<int>(row % 24) : 110;
    for (std::int64_t group = 0; group < weight.groups; ++group)
      weight.scales[static_cast<std::size_t>(row * weight.scale_row_bytes + group)] =
          static_cast<std::byte>(std::max(0, largest - static_cast<int>((group + row) % 12)));
  }
  // Groups of zeros far above and below the others, and a row of zeros of both signs.
  for (const auto& [row, exponent] : {std::pair{2, 254}, {5, 0}}) {
    zeros(row, 3, row == 2 ? std::byte{0x80} : std::byte{0});
    weight.scales[static_cast<std::size_t>(row * weight.scale_row_bytes + 3)] =
        static_cast<std::byte>(exponent);
  }
  for (std::int64_t group = 0; group < weight.groups; ++group) zeros(8, group, std::byte{0x08});
  expect_decoded(weight, weight_layout(weight.format, fp8), false);
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
