#include "text/byte_level.h"

#include <array>
#include <cstdint>

#include "text/utf8.h"

namespace sabrewing::text {
namespace {

constexpr char32_t kAlphabetEnd = 0x144;  // U+0100 + 68 bytes without a printable form

struct Tables {
  std::array<char32_t, 256> char_of_byte{};
  std::array<std::int16_t, kAlphabetEnd> byte_of_char{};

  Tables() {
    byte_of_char.fill(-1);
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      char_of_byte[byte] = printable ? byte : next++;
      byte_of_char[char_of_byte[byte]] = static_cast<std::int16_t>(byte);
    }
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

}  // namespace

std::string to_byte_level(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(out, tables().char_of_byte[static_cast<unsigned char>(byte)]);
  return out;
}

std::optional<std::string> from_byte_level(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    if (c.code_point >= kAlphabetEnd || tables().byte_of_char[c.code_point] < 0) return std::nullopt;
    out.push_back(static_cast<char>(tables().byte_of_char[c.code_point]));
    i += c.size;
  }
  return out;
}

}  // namespace sabrewing::text
