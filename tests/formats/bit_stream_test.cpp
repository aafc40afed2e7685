#include "formats/numeric/bit_stream.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"

namespace sabrewing::formats {
namespace {

std::vector<std::byte> pack(const std::vector<std::uint8_t>& codes, int bits) {
  std::vector<std::byte> bytes(packed_bytes(codes.size(), bits), std::byte{0xff});
  pack_codes(codes, bits, bytes);
  return bytes;
}

/// Little-endian 32-bit words in hex, as published vectors are written.
std::string words(const std::vector<std::byte>& bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 4) {
    std::uint32_t word = 0;
    for (std::size_t j = 0; j < 4; ++j) word |= std::to_integer<std::uint32_t>(bytes.at(i + j)) << (8 * j);
    text += fmt::format("{}{:08x}", i == 0 ? "" : " ", word);
  }
  return text;
}

std::vector<std::uint8_t> codes_of(int count, const std::function<int(int)>& code) {
  std::vector<std::uint8_t> codes;
  for (int i = 0; i < count; ++i) codes.push_back(static_cast<std::uint8_t>(code(i)));
  return codes;
}

TEST(BitStream, PublishedVectors) {
  EXPECT_EQ(words(pack(codes_of(8, [](int i) { return i; }), 4)), "76543210");
  EXPECT_EQ(words(pack(codes_of(32, [](int i) { return i % 8; }), 3)), "88fac688 c688fac6 fac688fa");
  EXPECT_EQ(words(pack(codes_of(32, [](int i) { return i; }), 5)),
            "8a418820 c5a92839 ca307b9a 38bdab49 ffbbcdeb");
  EXPECT_EQ(words(pack(codes_of(32, [](int i) { return 2 * i % 64; }), 6)),
            "88184080 449038c2 79c69859 a89a48a0 4cb0baca fbceb8db");
  // Integers -8..7 stored as value + 8.
  EXPECT_EQ(words(pack(codes_of(16, [](int i) { return i; }), 4)), "76543210 fedcba98");
  // E2M1 of (1.0, -6.0): the even element in the low nibble.
  EXPECT_EQ(pack({0x2, 0xf}, 4), (std::vector<std::byte>{std::byte{0xf2}}));
}

TEST(BitStream, RoundTripsAtEveryWidthAndOffset) {
  std::mt19937 random(1);
  for (int bits = 1; bits <= 8; ++bits) {
    for (int count : {0, 1, 2, 7, 8, 9, 31, 32, 33, 100}) {
      const auto codes = codes_of(count, [&](int) { return static_cast<int>(random() % (1u << bits)); });
      const auto stream = pack(codes, bits);
      EXPECT_EQ(stream.size(), (codes.size() * static_cast<std::size_t>(bits) + 7) / 8);
      for (std::size_t first = 0; first <= codes.size(); ++first) {
        std::vector<std::uint8_t> out(codes.size() - first);
        unpack_codes(stream, bits, first, out);
        EXPECT_TRUE(std::equal(out.begin(), out.end(), codes.begin() + static_cast<std::ptrdiff_t>(first)));
        if (first < codes.size()) {
          EXPECT_EQ(read_code(stream, bits, first), codes[first]);
        }
      }
    }
  }
}

TEST(BitStream, IgnoresHighBitsAndClearsPadding) {
  EXPECT_EQ(pack({0xff, 0x00, 0xff}, 2), (std::vector<std::byte>{std::byte{0x33}}));
}

TEST(BitStream, RefusesToLeaveTheStream) {
  std::vector<std::byte> stream(3);  // 8 codes of 3 bits
  std::vector<std::uint8_t> codes(8);
  unpack_codes(stream, 3, 0, codes);
  EXPECT_THROW(unpack_codes(stream, 3, 1, codes), Error);
  EXPECT_THROW(read_code(stream, 3, 8), Error);
  EXPECT_THROW(read_code(stream, 3, ~std::size_t{0}), Error);
  EXPECT_THROW(read_code(stream, 0, 0), Error);
  EXPECT_THROW(read_code(stream, 9, 0), Error);
  codes.resize(9);
  EXPECT_THROW(pack_codes(codes, 3, stream), Error);
}

}  // namespace
}  // namespace sabrewing::formats
