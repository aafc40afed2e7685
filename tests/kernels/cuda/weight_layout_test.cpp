#include "kernels/cuda/gemm/weight_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "formats/numeric/bit_stream.h"
#include "formats/numeric/float16.h"
#include "gemm_problem.h"

namespace sabrewing::kernels::cuda {
namespace {

using testing::format_by_name;
using ::testing::HasSubstr;
using testing::RandomWeight;

struct Case {
  std::string format;
  std::int64_t n;
  std::int64_t k;
};

class WeightLayoutRoundTrip : public ::testing::TestWithParam<Case> {};

TEST_P(WeightLayoutRoundTrip, UnpackInvertsPack) {
  const Case& c = GetParam();
  const RandomWeight weight(format_by_name(c.format), c.n, c.k, 7);
  const PackedHostWeight packed = pack_weight(weight.source());
  EXPECT_EQ(packed.shape.row_blocks, (c.n + 63) / 64);
  const UnpackedWeight unpacked = unpack_weight(weight.format, packed.shape, packed.bytes);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(c.k));
  ASSERT_EQ(unpacked.scale_columns, weight.groups);
  for (std::int64_t row = 0; row < c.n; ++row) {
    formats::unpack_codes(
        {weight.values.data() + row * weight.row_bytes, static_cast<std::size_t>(weight.row_bytes)},
        weight.format.element.bits, 0, codes);
    for (std::int64_t column = 0; column < c.k; ++column)
      ASSERT_EQ(unpacked.codes[static_cast<std::size_t>(row * c.k + column)],
                codes[static_cast<std::size_t>(column)])
          << "row " << row << " column " << column;
    for (std::int64_t group = 0; group < weight.groups; ++group)
      ASSERT_EQ(unpacked.scales[static_cast<std::size_t>(row * weight.groups + group)],
                weight.scale(row, group));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cuda, WeightLayoutRoundTrip,
    ::testing::Values(Case{"mxfp4", 33, 64}, Case{"mxfp4", 192, 2880}, Case{"mxfp4", 64, 32},
                      Case{"int4g128", 33, 128}, Case{"int4g128", 130, 384}, Case{"int4g64", 192, 2880},
                      Case{"int4row", 65, 100}, Case{"fp8row", 33, 64}, Case{"fp8row", 192, 200}),
    [](const auto& test) {
      return test.param.format + "_" + std::to_string(test.param.n) + "x" + std::to_string(test.param.k);
    });

TEST(WeightLayout, PartsStackAlongRows) {
  const RandomWeight weight(format_by_name("mxfp4"), 96, 64, 3);
  WeightSource split = weight.source();
  WeightRows second = split.parts[0];
  split.parts[0].rows = 40;
  second.values += 40 * second.row_stride;
  second.scales += 40 * second.scale_row_stride;
  second.rows = 56;
  split.parts.push_back(second);
  EXPECT_EQ(pack_weight(split).bytes, pack_weight(weight.source()).bytes);
}

TEST(WeightLayout, LargeExponentsMoveIntoTheFactor) {
  RandomWeight weight(format_by_name("mxfp4"), 64, 64, 3);
  weight.scales[0] = std::byte{200};
  const PackedHostWeight packed = pack_weight(weight.source());
  EXPECT_TRUE(packed.has_factors);
  const UnpackedWeight unpacked = unpack_weight(weight.format, packed.shape, packed.bytes);
  EXPECT_EQ(unpacked.scales[0], std::ldexp(1.0f, 200 - 127));
  EXPECT_EQ(unpacked.scales[1], weight.scale(0, 1));
}

TEST(WeightLayout, LargeBf16ScalesMoveIntoTheFactor) {
  RandomWeight weight(format_by_name("int4g64"), 64, 128, 3);
  const std::uint16_t large = formats::float_to_bf16(0x1.8p40f);
  std::memcpy(weight.scales.data(), &large, 2);
  const PackedHostWeight packed = pack_weight(weight.source());
  const UnpackedWeight unpacked = unpack_weight(weight.format, packed.shape, packed.bytes);
  EXPECT_EQ(unpacked.scales[0], 0x1.8p40f);
  EXPECT_EQ(unpacked.scales[1], weight.scale(0, 1));
}

TEST(WeightLayout, NanScaleIsCorrupt) {
  RandomWeight weight(format_by_name("mxfp4"), 64, 64, 3);
  weight.scales[3] = std::byte{255};
  try {
    pack_weight(weight.source());
    FAIL() << "packed a NaN scale";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
    EXPECT_THAT(error.what(), HasSubstr("row 1, group 1"));
  }
}

TEST(WeightLayout, RefusalsNameTheRule) {
  EXPECT_THAT(can_lay_out(formats::WeightFormat::nvfp4()).reason, HasSubstr("second-level"));
  EXPECT_THAT(can_lay_out(formats::WeightFormat::bf16()).reason, HasSubstr("mxfp4, int4"));
  auto odd = format_by_name("int4g64");
  odd.block.k = 48;
  EXPECT_THAT(can_lay_out(odd).reason, HasSubstr("multiple of 64"));
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
