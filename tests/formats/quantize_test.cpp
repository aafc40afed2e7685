#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "formats/numeric/element_type.h"
#include "formats/quantize/activations.h"

namespace sabrewing::formats {
namespace {

using ::testing::HasSubstr;

std::vector<std::uint32_t> read_hex(std::istream& file, const std::string& name) {
  std::string line, word;
  std::getline(file, line);
  std::istringstream words(line);
  words >> word;
  EXPECT_EQ(word, name);
  std::vector<std::uint32_t> values;
  while (words >> word) values.push_back(static_cast<std::uint32_t>(std::stoul(word, nullptr, 16)));
  return values;
}

TEST(QuantizeRow, MatchesTheGoldens) {
  std::ifstream file(std::string(SABREWING_SOURCE_DIR) + "/tests/data/formats/quantize_goldens.txt");
  ASSERT_TRUE(file) << "no goldens";
  int cases = 0;
  for (std::string line; std::getline(file, line); ++cases) {
    std::istringstream words(line);
    std::string keyword, element, scale;
    std::int64_t group = 0;
    words >> keyword >> element >> group >> scale;
    ASSERT_EQ(keyword, "case");
    const auto type = parse_element_type(element);
    ASSERT_TRUE(type) << element;
    const ActivationFormat format =
        group == 0 ? ActivationFormat::per_token(*type)
                   : ActivationFormat::per_group(*type, group, scale == "fp32" ? kFP32 : kE8M0);
    std::vector<float> row;
    for (const std::uint32_t bits : read_hex(file, "row")) row.push_back(std::bit_cast<float>(bits));
    const std::vector<std::uint32_t> expected_scales = read_hex(file, "scales");
    const std::vector<std::uint32_t> expected_codes = read_hex(file, "codes");
    std::vector<std::uint8_t> codes(row.size());
    std::vector<float> scales(expected_scales.size());
    quantize_row(format, row, codes, scales);
    for (std::size_t i = 0; i < scales.size(); ++i)
      EXPECT_EQ(std::isnan(scales[i]) ? 0x7fc00000 : std::bit_cast<std::uint32_t>(scales[i]),
                expected_scales[i])
          << line << " scale " << i << " case " << cases;
    for (std::size_t i = 0; i < codes.size(); ++i)
      EXPECT_EQ(codes[i], expected_codes[i]) << line << " number " << i << " " << row[i] << " case " << cases;
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(cases, 150);
}

TEST(QuantizeRow, EmptyRowsAndRefusals) {
  const ActivationFormat token = ActivationFormat::per_token(kE4M3);
  quantize_row(token, {}, {}, {});
  std::vector<float> row(8), scales(2);
  std::vector<std::uint8_t> codes(8);
  EXPECT_THROW(quantize_row(token, row, codes, scales), Error);
  EXPECT_THAT(can_quantize(ActivationFormat::bf16()).reason, HasSubstr("FP8, INT8, INT4 and FP4"));
  EXPECT_THAT(can_quantize(ActivationFormat::per_tensor(kE4M3)).reason, HasSubstr("per token or group"));
  ActivationFormat exponents = token;
  exponents.scale = kE8M0;
  EXPECT_THAT(can_quantize(exponents).reason, HasSubstr("E8M0 in groups"));
}

}  // namespace
}  // namespace sabrewing::formats
