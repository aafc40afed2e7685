#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sabrewing::formats {

/// Dense little-endian bit streams: code i of width `bits` (1 to 8) takes the bits [i*bits, (i+1)*bits),
/// where bit j is bit j%8 of byte j/8. Read as little-endian 32-bit words it is the same stream, so codes
/// may straddle words.

/// Bytes that `count` codes take, the last one padded.
constexpr std::size_t packed_bytes(std::size_t count, int bits) {
  const auto width = static_cast<std::size_t>(bits);
  return count / 8 * width + (count % 8 * width + 7) / 8;
}

/// Code `index` of `stream`. Throws `Error{kInvalidArgument}` beyond the end.
std::uint8_t read_code(std::span<const std::byte> stream, int bits, std::size_t index);

/// Codes [first, first + codes.size()) of `stream`. Throws `Error{kInvalidArgument}` beyond the end.
void unpack_codes(std::span<const std::byte> stream, int bits, std::size_t first,
                  std::span<std::uint8_t> codes);

/// Writes all of `codes`, of which the low `bits` bits count, to the start of `stream`; the padding bits of
/// the last byte become zero. Throws `Error{kInvalidArgument}` when `stream` is too short.
void pack_codes(std::span<const std::uint8_t> codes, int bits, std::span<std::byte> stream);

}  // namespace sabrewing::formats
