#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace sabrewing::text {

/// What an answer has to match. Grammars are compiled by xgrammar (https://github.com/mlc-ai/xgrammar).
struct GrammarSpec {
  enum class Kind {
    kJsonObject,     ///< any JSON object
    kJsonSchema,     ///< `text`: a JSON schema
    kRegex,          ///< `text`: a regular expression for the whole answer
    kChoice,         ///< one of `choices`
    kEbnf,           ///< `text`: rules in xgrammar's EBNF, beginning with "root"
    kStructuralTag,  ///< `text`: a structural tag in xgrammar's JSON format; tokens by id or by name
  };
  Kind kind = Kind::kJsonObject;
  std::string text;
  std::vector<std::string> choices;
  /// Schemas: what cannot be enforced is left out (`Grammar::unenforced`) instead of refused.
  bool lenient = false;
};

/// Bounds what one request can cost: a compilation cannot be interrupted. Schema text is also held to 64
/// levels of nesting.
struct GrammarLimits {
  std::size_t max_text_bytes = std::size_t{128} << 10;  ///< of a schema, a tag, a grammar or all choices
  std::size_t max_regex_bytes = std::size_t{4} << 10;   ///< of a regular expression, also within a schema
  std::size_t max_schema_nodes = 4000;                  ///< schemas within a schema, enum values counted
  std::size_t max_choices = 4000;                       ///< of a choice
  std::int64_t max_string_length = 100000;              ///< "minLength" and "maxLength"
  std::int64_t max_repetition = 1000;  ///< counts within {...} of a regular expression or EBNF, multiplied
                                       ///< where they are nested
  /// Places of unrolled repetitions (RepetitionCost) times tokens of the vocabulary: about 15 seconds.
  std::int64_t max_unrolled_tokens = 200'000'000;
  /// Processor time of a matcher: an ambiguous grammar gets slower with every token.
  double max_step_seconds = 0.2;
  double free_seconds = 1;  ///< before the mean counts
  double max_mean_step_seconds = 0.005;
  std::size_t cache_bytes = std::size_t{256} << 20;  ///< compiled grammars kept for the next request
};

/// Position of one answer within a grammar. Not thread safe.
class GrammarMatcher {
 public:
  virtual ~GrammarMatcher() = default;
  /// Both `fill` and `accept` throw `Error{kInvalidArgument}` when the grammar takes more time than the
  /// limits allow.
  ///
  /// One bit per token, token t in bit t % 32 of word t / 32: set when t may come next. The stop tokens may
  /// where the answer may end. Throws `Error{kInvalidArgument}` unless `words` covers the vocabulary.
  virtual void fill(std::span<std::uint32_t> words) = 0;
  /// Takes the next token. False, and unchanged, when the grammar does not allow it.
  virtual bool accept(std::int32_t id) = 0;
  /// Nothing but a stop token may follow, or one was taken.
  virtual bool finished() const = 0;
};

/// A compiled grammar. Immutable; threads may share it.
class Grammar {
 public:
  virtual ~Grammar() = default;
  virtual std::unique_ptr<GrammarMatcher> matcher() const = 0;
  /// What of a lenient schema is not enforced, one line each.
  virtual const std::vector<std::string>& unenforced() const = 0;
  virtual std::size_t bytes() const = 0;
};

/// Whether this build contains xgrammar.
bool grammar_supported();

/// Compiles grammars for one tokenizer and keeps them. Threads may share it; equal specifications that come
/// at the same time are compiled once.
class GrammarCompiler {
 public:
  /// `stop_ids`: the tokens that end an answer. `vocab_size`: of the logits, at least the tokenizer's.
  /// Throws `Error{kUnsupported}` that names the build option when xgrammar is not built in.
  GrammarCompiler(const Tokenizer& tokenizer, std::span<const std::int32_t> stop_ids, std::int64_t vocab_size,
                  const GrammarLimits& limits = {});
  ~GrammarCompiler();

  /// Throws `Error{kInvalidArgument}` for what is malformed, too large or cannot be enforced, with the
  /// reason.
  std::shared_ptr<const Grammar> compile(const GrammarSpec& spec);
  /// The grammar when it is in the cache, else null.
  std::shared_ptr<const Grammar> find(const GrammarSpec& spec);

  /// Compiled grammars held in the cache.
  std::size_t cached() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sabrewing::text
