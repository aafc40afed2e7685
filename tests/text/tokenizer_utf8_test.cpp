#include <gtest/gtest.h>

#include "text/utf8.h"

namespace sabrewing::text {
namespace {

std::string lossy(std::string_view bytes) {
  std::string out;
  append_utf8_lossy(out, bytes);
  return out;
}

TEST(Utf8, RoundTripsEveryCodePoint) {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    if (code >= 0xD800 && code <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, code);
    ASSERT_FALSE(find_invalid_utf8(text)) << static_cast<unsigned>(code);
    const Utf8Char read = next_char(text, 0);
    ASSERT_TRUE(read.code_point == code) << static_cast<unsigned>(code);
    ASSERT_EQ(read.size, text.size());
    ASSERT_EQ(lossy(text), text);
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      std::string prefix(1, 'x');
      prefix.append(text, 0, cut);
      ASSERT_EQ(incomplete_utf8_suffix(prefix), cut) << static_cast<unsigned>(code);
      ASSERT_EQ(find_invalid_utf8(prefix).value_or(99), 1U) << static_cast<unsigned>(code);
    }
    ASSERT_EQ(incomplete_utf8_suffix(text), 0U);
  }
}

TEST(Utf8, FindsIllFormedSequences) {
  EXPECT_EQ(find_invalid_utf8("ab\x80").value_or(99), 2U);            // lone continuation
  EXPECT_EQ(find_invalid_utf8("\xC0\xAF").value_or(99), 0U);          // overlong
  EXPECT_EQ(find_invalid_utf8("a\xED\xA0\x80").value_or(99), 1U);     // surrogate
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80").value_or(99), 0U);  // past U+10FFFF
  EXPECT_EQ(find_invalid_utf8("\xE2\x82").value_or(99), 0U);          // truncated
}

TEST(Utf8, ReplacesMaximalSubparts) {
  const std::string mark = "\xEF\xBF\xBD";
  EXPECT_EQ(lossy("a\x80z"), "a" + mark + "z");
  EXPECT_EQ(lossy("\xE2\x82z"), mark + "z");
  EXPECT_EQ(lossy("\xF0\x9F\x98"), mark);
  EXPECT_EQ(lossy("\xED\xA0\x80"), mark + mark + mark);
  EXPECT_EQ(lossy("\xC0\xAF"), mark + mark);
  EXPECT_EQ(lossy("\xF4\x90\x80\x80"), mark + mark + mark + mark);
}

}  // namespace
}  // namespace sabrewing::text
