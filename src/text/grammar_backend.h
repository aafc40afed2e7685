#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "text/grammar.h"

namespace sabrewing::text {

/// A specification that `GrammarCompiler` has prepared: within the limits, a schema only with what is
/// supported, choices turned into EBNF.
struct PreparedGrammar {
  GrammarSpec spec;
  std::vector<std::string> unenforced;
  bool counted = false;  ///< has repetitions that xgrammar counts instead of unrolling
};

/// The library that compiles. `compile` may be called by several threads.
class GrammarBackend {
 public:
  virtual ~GrammarBackend() = default;
  virtual std::shared_ptr<const Grammar> compile(PreparedGrammar grammar) const = 0;
};

std::unique_ptr<GrammarBackend> make_grammar_backend(const Tokenizer& tokenizer,
                                                     std::span<const std::int32_t> stop_ids,
                                                     std::int64_t vocab_size, const GrammarLimits& limits);

}  // namespace sabrewing::text
