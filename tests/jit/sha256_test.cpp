#include "jit/sha256.h"

#include <gtest/gtest.h>

namespace sabrewing::jit {
namespace {

std::string hash_text(std::string_view text) { return to_hex(sha256(std::as_bytes(std::span(text)))); }

// The examples of FIPS 180-4 and the NIST long-message vector.
TEST(Sha256, MatchesThePublishedVectors) {
  EXPECT_EQ(hash_text(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash_text("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hash_text(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, DoesNotDependOnHowTheInputIsCut) {
  for (std::size_t length : {0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 1000}) {
    std::string text(length, 'x');
    for (std::size_t i = 0; i < length; ++i) text[i] = static_cast<char>(i * 31);
    for (std::size_t piece : {1, 3, 64, 100}) {
      Sha256 hash;
      const auto bytes = std::as_bytes(std::span(text));
      for (std::size_t i = 0; i < length; i += piece)
        hash.update(bytes.subspan(i, std::min(piece, length - i)));
      EXPECT_EQ(to_hex(hash.finish()), hash_text(text)) << length << " in pieces of " << piece;
    }
  }
}

TEST(Sha256, FieldsDoNotRunIntoEachOther) {
  Sha256 a;
  a.update_field("ab");
  a.update_field("c");
  Sha256 b;
  b.update_field("a");
  b.update_field("bc");
  EXPECT_NE(a.finish(), b.finish());
}

}  // namespace
}  // namespace sabrewing::jit
