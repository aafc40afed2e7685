#include "engine/grammar_mask.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace sabrewing::engine {

GrammarMask::GrammarMask(std::shared_ptr<const text::Grammar> grammar, std::vector<std::int32_t> marker,
                         std::vector<std::int32_t> end_ids)
    : grammar_(std::move(grammar)),
      matcher_(grammar_->matcher()),
      marker_(std::move(marker)),
      end_ids_(std::move(end_ids)),
      free_(!marker_.empty()) {}

void GrammarMask::fill(std::span<std::uint32_t> words) {
  if (!free_) return matcher_->fill(words);
  std::fill(words.begin(), words.end(), ~std::uint32_t{0});
  for (const std::int32_t id : end_ids_) {
    const auto word = static_cast<std::size_t>(id) / 32;
    if (id >= 0 && word < words.size())
      words[word] &= ~(std::uint32_t{1} << (static_cast<std::uint32_t>(id) % 32));
  }
}

void GrammarMask::accept(std::int32_t id) {
  if (!free_) {
    SABREWING_CHECK(matcher_->accept(id), kInternal, "[grammar] token {} was allowed and is then refused",
                    id);
    return;
  }
  last_.push_back(id);
  if (last_.size() > marker_.size()) last_.erase(last_.begin());
  free_ = last_ != marker_;
}

bool GrammarMask::finished() const { return !free_ && matcher_->finished(); }

}  // namespace sabrewing::engine
