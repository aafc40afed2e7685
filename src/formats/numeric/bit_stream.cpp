#include "formats/numeric/bit_stream.h"

#include "core/error.h"

namespace sabrewing::formats {
namespace {

void check(std::size_t bytes, int bits, std::size_t first, std::size_t count) {
  SABREWING_CHECK(bits >= 1 && bits <= 8, kInvalidArgument, "[bit stream] width is {}, expected 1 to 8",
                  bits);
  const auto width = static_cast<std::size_t>(bits);
  const std::size_t capacity = bytes / width * 8 + bytes % width * 8 / width;
  SABREWING_CHECK(first <= capacity && count <= capacity - first, kInvalidArgument,
                  "[bit stream] codes {} to {} of {} bits are not within {} bytes", first, first + count,
                  bits, bytes);
}

}  // namespace

std::uint8_t read_code(std::span<const std::byte> stream, int bits, std::size_t index) {
  std::uint8_t code = 0;
  unpack_codes(stream, bits, index, {&code, 1});
  return code;
}

void unpack_codes(std::span<const std::byte> stream, int bits, std::size_t first,
                  std::span<std::uint8_t> codes) {
  check(stream.size(), bits, first, codes.size());
  const auto width = static_cast<std::size_t>(bits);
  const unsigned mask = (1u << bits) - 1;
  std::size_t byte = first / 8 * width + first % 8 * width / 8;
  std::size_t shift = first % 8 * width % 8;
  for (std::uint8_t& code : codes) {
    auto window = std::to_integer<unsigned>(stream[byte]);
    if (shift + width > 8) window |= std::to_integer<unsigned>(stream[byte + 1]) << 8;
    code = static_cast<std::uint8_t>((window >> shift) & mask);
    shift += width;
    byte += shift / 8;
    shift %= 8;
  }
}

void pack_codes(std::span<const std::uint8_t> codes, int bits, std::span<std::byte> stream) {
  check(stream.size(), bits, 0, codes.size());
  const unsigned mask = (1u << bits) - 1;
  unsigned window = 0;
  int filled = 0;
  std::size_t byte = 0;
  for (std::uint8_t code : codes) {
    window |= (code & mask) << filled;
    filled += bits;
    if (filled >= 8) {
      stream[byte++] = static_cast<std::byte>(window & 0xff);
      window >>= 8;
      filled -= 8;
    }
  }
  if (filled > 0) stream[byte] = static_cast<std::byte>(window);
}

}  // namespace sabrewing::formats
