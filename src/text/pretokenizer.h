#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/regex.h"

namespace sabrewing::text {

/// What becomes of the parts of a text that a `Split` pattern matches.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// Cuts text at the matches of a regex or of a fixed text.
class Split {
 public:
  Split(std::variant<Regex, std::string> pattern, SplitBehavior behavior, bool invert);

  /// Appends the non-empty parts of `text` to `pieces`.
  void apply(std::string_view text, SearchBudget& budget, std::vector<std::string_view>& pieces) const;

 private:
  /// A stretch of the text, in order and without holes.
  struct Stretch {
    std::size_t begin;
    std::size_t end;
    bool match;
  };
  void add_stretches(std::string_view text, SearchBudget& budget, std::vector<Stretch>& stretches) const;

  std::variant<Regex, std::string> pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

/// Cuts text into the pieces that BPE works on: splits in sequence, then the byte-level step.
class Pretokenizer {
 public:
  /// `gpt2_split`: the byte-level step cuts by the GPT-2 pattern. `add_prefix_space`: before that, every
  /// piece that does not start with a space gets one.
  Pretokenizer(std::vector<Split> splits, bool add_prefix_space, bool gpt2_split);

  /// Calls `sink` with each piece; a piece is valid only during the call.
  void apply(std::string_view text, SearchBudget& budget,
             const std::function<void(std::string_view)>& sink) const;

 private:
  std::vector<Split> splits_;
  bool add_prefix_space_;
  std::optional<Split> gpt2_split_;
};

}  // namespace sabrewing::text
