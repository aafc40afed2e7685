#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar.h"

namespace sabrewing::text {

/// White space in a row between the parts of JSON. Without a bound a model may write nothing else until its
/// limit.
inline constexpr int kMostWhitespace = 20;

/// What bounded repetitions cost: xgrammar unrolls them, and looks at every token of the vocabulary at every
/// place.
struct RepetitionCost {
  std::int64_t longest = 0;  ///< the largest count
  std::int64_t places = 0;   ///< after unrolling; counts above 128 cost no more than that

  void add(const RepetitionCost& other) {
    longest = longest > other.longest ? longest : other.longest;
    places += other.places;
  }
};

/// A JSON schema made ready for xgrammar, which ignores keywords that it does not know and constraints beside
/// the one that it follows ("anyOf" next to "properties").
struct PreparedSchema {
  std::string text;
  RepetitionCost cost;
  std::vector<std::string> unenforced;  ///< "#/properties/a: uniqueItems" and the like
};

/// Checks every schema within `text`, names what would not be enforced, and makes schemas distinguishable
/// that differ only below names such as "title", which xgrammar takes for the same. Throws
/// `Error{kInvalidArgument}` for malformed JSON and beyond the limits.
PreparedSchema prepare_json_schema(std::string_view text, const GrammarLimits& limits);

/// Does the same for the schemas in a structural tag, and replaces names of tokens by ids.
PreparedSchema prepare_structural_tag(std::string_view text, const Tokenizer& tokenizer,
                                      const GrammarLimits& limits);

/// Throws `Error{kInvalidArgument}` when a regular expression is longer than the limit, nested deeper than 64
/// groups, repeats more than the limit allows, or would make xgrammar read beyond its character tables.
RepetitionCost check_regex(std::string_view regex, const GrammarLimits& limits);

/// The same for repetitions and nesting in EBNF.
RepetitionCost check_ebnf(std::string_view grammar, const GrammarLimits& limits);

}  // namespace sabrewing::text
