#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace sabrewing::text {

/// A compiled regular expression of `tokenizer.json` (see regex_dialect.h). Immutable; threads may share it.
class Regex {
 public:
  /// `what` names file and field in errors, now and when matching.
  Regex(std::string_view pattern, std::string what);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

 private:
  friend class RegexMatches;
  struct Code;
  std::unique_ptr<Code> code_;
};

/// The non-overlapping matches of an expression in a text, from left to right. An empty match directly
/// after another match is passed over.
class RegexMatches {
 public:
  /// `text` is well-formed UTF-8. Both must outlive this object.
  RegexMatches(const Regex& regex, std::string_view text);
  ~RegexMatches();
  RegexMatches(const RegexMatches&) = delete;
  RegexMatches& operator=(const RegexMatches&) = delete;

  /// Finds the next match, text[begin, end). Throws `Error{kInvalidArgument}` when the search takes more
  /// backtracking than a text of this size deserves.
  bool next();
  std::size_t begin() const { return begin_; }
  std::size_t end() const { return end_; }

 private:
  struct Scratch;
  bool match_at(std::size_t position);
  void check_time();

  const Regex& regex_;
  std::string_view text_;
  std::unique_ptr<Scratch> scratch_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t position_ = 0;
  std::size_t last_end_ = 0;
  bool matched_before_ = false;
  unsigned attempts_ = 0;
  double deadline_ = 0;  ///< in processor seconds of this thread; 0 before it is needed
};

}  // namespace sabrewing::text
