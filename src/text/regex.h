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

/// Bounds the processor time that all searches of one task may take, so that a hostile pattern or text
/// ends with an error. Used by one thread.
class SearchBudget {
 public:
  /// For work on a text of `bytes`.
  explicit SearchBudget(std::size_t bytes);

  /// Before an attempt to match at one position; looks at the clock now and then.
  void count_attempt(std::string_view what) {
    if (++attempts_ % attempts_per_check_ == 0) check(what);
  }
  /// Throws `Error{kInvalidArgument}` that names `what` when the time is used up.
  void check(std::string_view what);

 private:
  std::size_t bytes_;
  std::size_t attempts_per_check_;
  std::size_t attempts_ = 0;
  double deadline_ = 0;  ///< in processor seconds of this thread; set by the first look
};

/// The non-overlapping matches of an expression in a text, from left to right. An empty match directly
/// after another match is passed over.
class RegexMatches {
 public:
  /// `text` is well-formed UTF-8. All three must outlive this object.
  RegexMatches(const Regex& regex, std::string_view text, SearchBudget& budget);
  ~RegexMatches();
  RegexMatches(const RegexMatches&) = delete;
  RegexMatches& operator=(const RegexMatches&) = delete;

  /// Finds the next match, text[begin, end). Throws `Error{kInvalidArgument}` when it takes more memory or
  /// time than the text deserves.
  bool next();
  std::size_t begin() const { return begin_; }
  std::size_t end() const { return end_; }

 private:
  struct Scratch;
  bool match_at(std::size_t position);

  const Regex& regex_;
  std::string_view text_;
  SearchBudget& budget_;
  std::unique_ptr<Scratch> scratch_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t position_ = 0;
  std::size_t last_end_ = 0;
  bool matched_before_ = false;
};

}  // namespace sabrewing::text
