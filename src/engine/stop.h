#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sabrewing::engine {

/// Finds stop strings in a text that arrives in pieces and holds back what may become one. The result does
/// not depend on how the text is cut: the match that ends first wins, the longest of those that end together.
class StopChecker {
 public:
  /// Empty strings are ignored.
  explicit StopChecker(const std::vector<std::string>& stop);

  /// Takes the next piece and returns the text that is now certain to precede any stop string. Empty once
  /// stopped.
  std::string push(std::string_view piece);
  /// The text held back, at the end of the input.
  std::string flush();

  bool stopped() const { return matched_.has_value(); }
  /// The stop string that was found.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  /// One string with its failure function (Knuth, Morris and Pratt, 1977).
  struct Pattern {
    std::string text;
    std::vector<std::size_t> failure;  ///< failure[i]: longest proper border of the first i bytes
    std::size_t state = 0;             ///< bytes of `text` that end the input so far
  };

  std::vector<Pattern> patterns_;
  std::string pending_;
  std::optional<std::string> matched_;
};

}  // namespace sabrewing::engine
