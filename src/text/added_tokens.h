#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace sabrewing::text {

/// One entry of `added_tokens`: text that is cut out before anything else and has its own id.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false;  ///< only where no word character touches it
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space after it
  bool normalized = true;    ///< looked for in normalized text, in its own normalized form
  bool special = false;      ///< left out by decode when asked to
};

/// Finds added tokens in text: at each position the longest, from left to right, without overlaps.
/// Immutable; threads may share it.
class AddedTokenMatcher {
 public:
  struct Entry {
    AddedToken token;
    std::string text;  ///< what is looked for; unique
  };
  /// A part of the text: a token, or the text [begin, end) between tokens.
  struct Part {
    std::optional<std::int32_t> id;
    std::size_t begin;
    std::size_t end;
  };

  explicit AddedTokenMatcher(std::vector<Entry> entries);

  /// Cuts `text`, in order. Without `parse_special`, special tokens stay text.
  std::vector<Part> cut(std::string_view text, bool parse_special) const;

  /// Where the text's end begins that more text could complete to a token; its size when there is none.
  std::size_t unfinished(std::string_view text) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::uint32_t>> children;
    std::int32_t entry = -1;
  };
  const Entry* longest_at(std::string_view text, std::size_t position) const;
  bool is_word(std::string_view text, std::size_t begin) const;

  std::vector<Entry> entries_;
  std::vector<Node> nodes_;
  std::size_t longest_ = 0;  ///< bytes of the longest
  bool starts_[256] = {};
  std::optional<Regex> word_;  ///< present when some token asks for single words
};

}  // namespace sabrewing::text
