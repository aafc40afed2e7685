#include "formats/numeric/dequantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/formats/checkpoint_files.h"

namespace sabrewing::formats {
namespace {

std::vector<std::byte> bytes_of(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; hex != "-" && i < hex.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

float float_of(const std::string& hex) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(std::stoul(hex, nullptr, 16)));
}

const std::map<std::string, WeightFormat>& named_formats() {
  static const std::map<std::string, WeightFormat> kFormats{
      {"bf16", WeightFormat::bf16()},
      {"fp16", WeightFormat::fp16()},
      {"fp32", WeightFormat::fp32()},
      {"mxfp4", WeightFormat::mxfp4()},
      {"nvfp4", WeightFormat::nvfp4()},
      {"block_fp32", WeightFormat::scaled(kE4M3, {2, 3}, kFP32)},
      {"block_bf16", WeightFormat::scaled(kE4M3, {2, 3}, kBF16)},
      {"int3_channel", WeightFormat::scaled(ElementType::integer(3), {1, 0}, kFP16)},
  };
  return kFormats;
}

/// Made by tests/formats/tools/make_dequantize_goldens.py.
TEST(Dequantize, EqualsTheGoldensBitForBit) {
  std::ifstream file(SABREWING_SOURCE_DIR "/tests/data/formats/dequantize_goldens.txt");
  std::size_t matrices = 0;
  for (std::string line; std::getline(file, line); ++matrices) {
    std::istringstream words(line);
    std::string name, data_hex, scales_hex, second_hex;
    std::int64_t rows = 0, k = 0;
    words >> name >> rows >> k >> data_hex >> scales_hex >> second_hex;
    std::vector<float> expected;
    for (std::string value; words >> value;) expected.push_back(float_of(value));
    ASSERT_EQ(expected.size(), static_cast<std::size_t>(rows * k)) << name;
    const auto data = bytes_of(data_hex);
    const auto scales = bytes_of(scales_hex);
    const WeightBytes weight{data, scales, float_of(second_hex)};
    const WeightFormat& format = named_formats().at(name);
    for (std::int64_t first = 0; first < rows; ++first) {
      std::vector<float> out(static_cast<std::size_t>((rows - first) * k));
      dequantize_rows(format, weight, k, first, rows - first, out);
      for (std::size_t i = 0; i < out.size(); ++i) {
        EXPECT_EQ(std::bit_cast<std::uint32_t>(out[i]),
                  std::bit_cast<std::uint32_t>(expected[i + static_cast<std::size_t>(first * k)]))
            << name << " from row " << first << " element " << i;
      }
    }
  }
  EXPECT_EQ(matrices, named_formats().size());
}

TEST(Dequantize, NaNScaleGivesNaN) {
  const std::vector<std::byte> data(16), scales{std::byte{255}};
  std::vector<float> out(32);
  dequantize_rows(WeightFormat::mxfp4(), {data, scales}, 32, 0, 1, out);
  for (float value : out) EXPECT_TRUE(std::isnan(value));
}

TEST(Dequantize, RefusesShortSpans) {
  const std::vector<std::byte> data(32), scales(2);
  std::vector<float> out(64);
  const WeightFormat format = WeightFormat::mxfp4();
  const auto refuse = [&](const std::string& text, const WeightBytes& weight, std::int64_t k,
                          std::int64_t first, std::int64_t rows) {
    expect_error(ErrorCode::kInvalidArgument, text,
                 [&] { dequantize_rows(format, weight, k, first, rows, out); });
  };
  dequantize_rows(format, {data, scales}, 32, 0, 2, out);
  dequantize_rows(format, {}, 32, 0, 0, {});
  dequantize_rows(format, {}, 0, 0, 2, {});
  refuse("32 bytes do not hold 3 rows", {data, scales}, 32, 1, 2);
  refuse("do not hold 2 rows", {std::span(data).first(31), scales}, 32, 0, 2);
  refuse("bytes of scales", {data, std::span(scales).first(1)}, 32, 0, 2);
  refuse("do not fit 64 floats", {data, scales}, 33, 0, 2);
  refuse("rows -1 + 2", {data, scales}, 32, -1, 2);
  refuse("columns", {data, scales}, std::int64_t{1} << 62, 0, 2);
}

TEST(Dequantize, RefusesZeroPoints) {
  WeightFormat format = WeightFormat::scaled(ElementType::unsigned_integer(4), {1, 32}, kFP16);
  format.zero_point = ZeroPoint::kInteger;
  EXPECT_FALSE(can_dequantize(format));
  expect_error(ErrorCode::kUnsupported, "zero points", [&] { dequantize_rows(format, {}, 32, 0, 1, {}); });
}

}  // namespace
}  // namespace sabrewing::formats
