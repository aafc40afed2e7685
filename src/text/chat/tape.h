#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sabrewing::text::chat {

inline bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/// Length of the white space that `text` starts with.
inline std::size_t leading_space(std::string_view text) {
  return static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), is_space) - text.begin());
}

/// `text` without the white space around it.
inline std::string_view trimmed(std::string_view text) {
  text.remove_prefix(leading_space(text));
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// Generated text that is not yet understood. Questions are answered so that the answer cannot change with
/// more text: what is undecided says so until `end`.
class Tape {
 public:
  void append(std::string_view text) {
    text_.erase(0, at_);
    at_ = 0;
    text_ += text;
  }
  void end() { ended_ = true; }

  std::string_view rest() const { return std::string_view(text_).substr(at_); }
  bool empty() const { return at_ == text_.size(); }
  bool ended() const { return ended_; }

  std::string_view take(std::size_t count) {
    const std::string_view taken = rest().substr(0, count);
    at_ += taken.size();
    return taken;
  }

  enum class Match { kNo, kYes, kMore };

  /// Whether the text goes on with `literal`.
  Match match(std::string_view literal) const {
    const std::string_view text = rest();
    if (text.starts_with(literal)) return Match::kYes;
    return !ended_ && literal.starts_with(text) ? Match::kMore : Match::kNo;
  }

  struct Found {
    std::size_t before = 0;             ///< bytes that certainly stand before the first marker
    std::optional<std::size_t> marker;  ///< which one starts there; nothing: none, or not yet certain
  };

  /// The first of `markers`; none is empty, and none starts another.
  Found find(std::span<const std::string> markers) const {
    const std::string_view text = rest();
    for (std::size_t at = 0; at < text.size(); ++at) {
      const std::string_view tail = text.substr(at);
      for (std::size_t m = 0; m < markers.size(); ++m) {
        const std::string_view marker = markers[m];
        if (tail.front() != marker.front()) continue;
        if (tail.starts_with(marker)) return {at, m};
        if (!ended_ && marker.starts_with(tail)) return {at, std::nullopt};
      }
    }
    return {text.size(), std::nullopt};
  }

 private:
  std::string text_;
  std::size_t at_ = 0;
  bool ended_ = false;
};

}  // namespace sabrewing::text::chat
