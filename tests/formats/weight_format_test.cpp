#include "formats/scheme/weight_format.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace sabrewing::formats {
namespace {

TEST(WeightFormat, Names) {
  EXPECT_EQ(to_string(WeightFormat::bf16()), "bf16");
  EXPECT_EQ(to_string(WeightFormat::mxfp4()), "mxfp4");
  EXPECT_EQ(to_string(WeightFormat::mxfp8()), "mxfp8");
  EXPECT_EQ(to_string(WeightFormat::nvfp4()), "nvfp4");
  EXPECT_EQ(to_string(WeightFormat::scaled(ElementType::integer(4), {1, 128}, kBF16)), "int4 g128 bf16");
  EXPECT_EQ(to_string(WeightFormat::scaled(kE4M3, {128, 128}, kFP32)), "float8e4m3 128x128 fp32");
  EXPECT_EQ(to_string(WeightFormat::scaled(ElementType::integer(8), {1, 0}, kFP32)), "int8 channel fp32");
  EXPECT_EQ(to_string(WeightFormat::scaled(kE4M3, {0, 0}, kFP32)), "float8e4m3 tensor fp32");
  WeightFormat asymmetric = WeightFormat::scaled(ElementType::unsigned_integer(4), {1, 128}, kFP16);
  asymmetric.zero_point = ZeroPoint::kInteger;
  EXPECT_EQ(to_string(asymmetric), "uint4 g128 fp16 zp");
}

TEST(WeightFormat, IsAValue) {
  constexpr WeightFormat format = WeightFormat::mxfp4();
  static_assert(format == WeightFormat::scaled(kE2M1, {1, 32}, kE8M0));
  EXPECT_NE(format, WeightFormat::mxfp8());
  EXPECT_NE(WeightFormat::bf16(), WeightFormat::fp16());
}

TEST(WeightFormat, ScaleGridCountsPartialBlocks) {
  EXPECT_EQ(WeightFormat::bf16().scale_grid(5, 7), (BlockShape{0, 0}));
  EXPECT_EQ(WeightFormat::mxfp4().scale_grid(5760, 2880), (BlockShape{5760, 90}));
  EXPECT_EQ(WeightFormat::mxfp4().scale_grid(3, 33), (BlockShape{3, 2}));
  EXPECT_EQ(WeightFormat::scaled(kE4M3, {128, 128}, kFP32).scale_grid(576, 7168), (BlockShape{5, 56}));
  EXPECT_EQ(WeightFormat::scaled(kE4M3, {1, 0}, kFP32).scale_grid(576, 7168), (BlockShape{576, 1}));
  EXPECT_EQ(WeightFormat::scaled(kE4M3, {0, 0}, kFP32).scale_grid(576, 7168), (BlockShape{1, 1}));
  EXPECT_EQ(WeightFormat::mxfp4().scale_grid(0, 0), (BlockShape{0, 0}));
  EXPECT_THROW(WeightFormat::mxfp4().scale_grid(-1, 32), Error);
}

TEST(ActivationFormat, Names) {
  EXPECT_EQ(to_string(ActivationFormat::bf16()), "bf16");
  EXPECT_EQ(to_string(ActivationFormat::mx(kE4M3)), "mxfp8");
  EXPECT_EQ(to_string(ActivationFormat::mx(kE2M1)), "mxfp4");
  EXPECT_EQ(to_string(ActivationFormat::per_token(ElementType::integer(8))), "int8 token");
  EXPECT_EQ(to_string(ActivationFormat::per_tensor(kE4M3)), "float8e4m3 tensor");
  EXPECT_EQ(to_string(ActivationFormat::per_group(kE4M3, 128, kFP32)), "float8e4m3 g128 fp32");
}

}  // namespace
}  // namespace sabrewing::formats
