#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/request.h"
#include "text/grammar.h"

namespace sabrewing::engine {

/// Lets a grammar restrict an answer, at once or from a marker on, such as the end of the reasoning.
class GrammarMask final : public TokenMask {
 public:
  /// `marker`: the grammar applies to what follows these tokens in a row; until then all tokens but `end_ids`
  /// are allowed. Empty: it applies to the whole answer.
  explicit GrammarMask(std::shared_ptr<const text::Grammar> grammar, std::vector<std::int32_t> marker = {},
                       std::vector<std::int32_t> end_ids = {});

  void fill(std::span<std::uint32_t> words) override;
  void accept(std::int32_t id) override;
  bool finished() const override;

 private:
  std::shared_ptr<const text::Grammar> grammar_;
  std::unique_ptr<text::GrammarMatcher> matcher_;
  std::vector<std::int32_t> marker_;
  std::vector<std::int32_t> end_ids_;
  std::vector<std::int32_t> last_;  ///< as many as the marker has, while it is awaited
  bool free_;
};

}  // namespace sabrewing::engine
