#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/regex.h"

namespace sabrewing::text {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

/// Puts `text` in front of a text that is not empty.
struct Prepend {
  std::string text;
};

/// Lower case by Unicode's full mapping, character by character.
struct Lowercase {};

/// Replaces every match of a regex or fixed text.
struct Replace {
  std::variant<Regex, std::string> pattern;
  std::string content;
};

/// What is done to text before it is cut: steps in sequence. Immutable; threads may share it.
class Normalizer {
 public:
  using Step = std::variant<UnicodeForm, Prepend, Lowercase, Replace>;

  Normalizer() = default;
  explicit Normalizer(std::vector<Step> steps) : steps_(std::move(steps)) {}

  bool empty() const { return steps_.empty(); }

  /// `text` is well-formed UTF-8. Throws `Error{kInvalidArgument}` when the result grows out of proportion.
  std::string apply(std::string_view text, SearchBudget& budget) const;

 private:
  std::vector<Step> steps_;
};

}  // namespace sabrewing::text
