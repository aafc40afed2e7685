#include "formats/checkpoint/names.h"

#include <fmt/core.h>

#include <algorithm>

namespace sabrewing::formats {

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

bool matches_glob(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;  // the last star, and where the text it stands for ends
  std::size_t star_end = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_end = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_end;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace sabrewing::formats
