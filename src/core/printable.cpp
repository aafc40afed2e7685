#include "core/printable.h"

#include <fmt/core.h>

#include <algorithm>

namespace sabrewing {

std::string printable(std::string_view name) {
  constexpr std::size_t kLimit = 120;
  std::size_t shown = std::min(name.size(), kLimit);
  // Not within a UTF-8 sequence.
  while (shown > 0 && shown < name.size() && (name[shown] & 0xc0) == 0x80) --shown;
  std::string text = "\"";
  for (char c : name.substr(0, shown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  text += shown < name.size() ? "...\"" : "\"";
  return text;
}

}  // namespace sabrewing
