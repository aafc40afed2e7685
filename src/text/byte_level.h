#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sabrewing::text {

/// The byte alphabet of GPT-2: each byte has one printable character, so that vocabularies of byte
/// sequences can be written as text. Printable Latin-1 bytes stand for themselves, the other 68 for
/// U+0100 and up.

/// Byte-level text of raw bytes.
std::string to_byte_level(std::string_view bytes);

/// Raw bytes of well-formed UTF-8 text in which every character belongs to the byte alphabet; nothing
/// when one does not.
std::optional<std::string> from_byte_level(std::string_view text);

}  // namespace sabrewing::text
