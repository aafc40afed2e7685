#include "formats/checkpoint/dummy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "formats/numeric/bit_stream.h"
#include "formats/numeric/dequantize.h"
#include "tests/formats/checkpoint_files.h"

namespace sabrewing::formats {
namespace {

struct Matrix {
  std::vector<std::byte> data;
  std::vector<std::byte> scales;
  float second_scale = 1;
};

constexpr std::int64_t kRows = 300;
constexpr std::int64_t kColumns = 384;

Matrix dummy(const WeightFormat& format, double rms, std::uint64_t seed, ThreadPool* pool = nullptr) {
  Matrix matrix;
  const BlockShape grid = format.scale_grid(kRows, kColumns);
  const std::size_t bits = format.element.bits;
  matrix.data.resize(static_cast<std::size_t>(kRows * kColumns) * bits / 8);
  if (format.scale) matrix.scales.resize(static_cast<std::size_t>(grid.n * grid.k) * format.scale->bits / 8);
  matrix.second_scale = fill_dummy_weight(format, rms, seed, matrix.data, matrix.scales, pool);
  return matrix;
}

TEST(Dummy, ValuesAreFiniteWithTheWantedMagnitude) {
  const std::vector<WeightFormat> formats{
      WeightFormat::bf16(),
      WeightFormat::fp16(),
      WeightFormat::fp32(),
      WeightFormat::mxfp4(),
      WeightFormat::mxfp8(),
      WeightFormat::nvfp4(),
      WeightFormat::scaled(kE5M2, {128, 128}, kFP32),
      WeightFormat::scaled(ElementType::integer(3), {1, 128}, kBF16),
      WeightFormat::scaled(ElementType::integer(8), {1, 0}, kFP16),
      WeightFormat::scaled(kE4M3, {0, 0}, kFP32),
  };
  for (const WeightFormat& format : formats) {
    for (double rms : {1.0, 0.02, 0.0137}) {
      const Matrix matrix = dummy(format, rms, 5);
      std::vector<float> values(static_cast<std::size_t>(kRows * kColumns));
      dequantize_rows(format, {matrix.data, matrix.scales, matrix.second_scale}, kColumns, 0, kRows, values);
      double sum = 0, squares = 0;
      for (float value : values) {
        ASSERT_TRUE(std::isfinite(value)) << to_string(format);
        sum += value;
        squares += double{value} * double{value};
      }
      const double count = static_cast<double>(values.size());
      const double measured = std::sqrt(squares / count);
      EXPECT_GT(measured, rms / 4) << to_string(format);
      EXPECT_LT(measured, rms * 4) << to_string(format);
      // Two's complement has one negative value more.
      if (!format.element.is_integer()) {
        EXPECT_LT(std::fabs(sum / count), rms / 50) << to_string(format);
      }
    }
  }
}

TEST(Dummy, UsesEveryCodeOfMxfp4) {
  const Matrix matrix = dummy(WeightFormat::mxfp4(), 0.02, 1);
  std::vector<int> counts(16);
  for (std::size_t i = 0; i < 10000; ++i) ++counts[read_code(matrix.data, 4, i)];
  for (int count : counts) EXPECT_NEAR(count, 625, 150);
}

TEST(Dummy, DependsOnTheSeedAndNotOnThePool) {
  std::vector<std::byte> one((std::size_t{3} << 20) + 5), two(one.size()), other(one.size());
  ThreadPool pool(3);
  fill_dummy_values(kBF16, 0.02, 9, one);
  fill_dummy_values(kBF16, 0.02, 9, two, &pool);
  fill_dummy_values(kBF16, 0.02, 10, other, &pool);
  EXPECT_EQ(one, two);
  EXPECT_NE(one, other);
  EXPECT_NE(std::vector(one.begin(), one.begin() + 4096),
            std::vector(one.begin() + (1 << 20), one.begin() + (1 << 20) + 4096));
}

TEST(Dummy, RefusesWhatItCannotFill) {
  std::vector<std::byte> bytes(64);
  for (double rms : {0.0, -1.0, std::numeric_limits<double>::infinity(), std::nan("")})
    expect_error(ErrorCode::kInvalidArgument, "root mean square",
                 [&] { fill_dummy_values(kBF16, rms, 1, bytes); });
  expect_error(ErrorCode::kInvalidArgument, "float4e2m1", [&] { fill_dummy_values(kE2M1, 1, 1, bytes); });
  WeightFormat format = WeightFormat::scaled(ElementType::unsigned_integer(4), {1, 32}, kFP16);
  format.zero_point = ZeroPoint::kInteger;
  expect_error(ErrorCode::kUnsupported, "zero points",
               [&] { fill_dummy_weight(format, 1, 1, bytes, bytes); });
}

}  // namespace
}  // namespace sabrewing::formats
