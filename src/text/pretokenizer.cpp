#include "text/pretokenizer.h"

#include <algorithm>
#include <utility>

namespace sabrewing::text {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace

Split::Split(std::variant<Regex, std::string> pattern, SplitBehavior behavior, bool invert)
    : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

void Split::add_stretches(std::string_view text, SearchBudget& budget,
                          std::vector<Stretch>& stretches) const {
  std::size_t done = 0;
  const auto add_match = [&](std::size_t begin, std::size_t end) {
    if (done != begin) stretches.push_back({done, begin, invert_});
    stretches.push_back({begin, end, !invert_});
    done = end;
  };
  if (const auto* regex = std::get_if<Regex>(&pattern_)) {
    RegexMatches matches(*regex, text, budget);
    while (matches.next()) add_match(matches.begin(), matches.end());
  } else {
    const auto& fixed = std::get<std::string>(pattern_);
    for (std::size_t at = 0; (at = text.find(fixed, at)) != std::string_view::npos; at += fixed.size()) {
      add_match(at, at + fixed.size());
    }
  }
  if (done != text.size()) stretches.push_back({done, text.size(), invert_});
}

void Split::apply(std::string_view text, SearchBudget& budget, std::vector<std::string_view>& pieces) const {
  std::vector<Stretch> stretches;
  add_stretches(text, budget, stretches);
  std::vector<Stretch> kept;
  bool match_before = false;
  switch (behavior_) {
    case SplitBehavior::kIsolated:
      kept = std::move(stretches);
      break;
    case SplitBehavior::kRemoved:
      std::copy_if(stretches.begin(), stretches.end(), std::back_inserter(kept),
                   [](const Stretch& stretch) { return !stretch.match; });
      break;
    case SplitBehavior::kContiguous:
      for (const Stretch& stretch : stretches) {
        if (stretch.match == match_before && !kept.empty()) {
          kept.back().end = stretch.end;
        } else {
          kept.push_back(stretch);
        }
        match_before = stretch.match;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Stretch& stretch : stretches) {
        if (stretch.match && !match_before && !kept.empty()) {
          kept.back().end = stretch.end;
        } else {
          kept.push_back(stretch);
        }
        match_before = stretch.match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      std::reverse(stretches.begin(), stretches.end());
      for (const Stretch& stretch : stretches) {
        if (stretch.match && !match_before && !kept.empty()) {
          kept.back().begin = stretch.begin;
        } else {
          kept.push_back(stretch);
        }
        match_before = stretch.match;
      }
      std::reverse(kept.begin(), kept.end());
      break;
  }
  for (const Stretch& stretch : kept) {
    if (stretch.begin != stretch.end)
      pieces.push_back(text.substr(stretch.begin, stretch.end - stretch.begin));
  }
}

Pretokenizer::Pretokenizer(std::vector<Split> splits, bool add_prefix_space, bool gpt2_split)
    : splits_(std::move(splits)), add_prefix_space_(add_prefix_space) {
  if (gpt2_split) {
    gpt2_split_.emplace(Regex(kGpt2Pattern, "the ByteLevel pattern"), SplitBehavior::kIsolated, false);
  }
}

void Pretokenizer::apply(std::string_view text, SearchBudget& budget,
                         const std::function<void(std::string_view)>& sink) const {
  if (text.empty()) return;
  std::vector<std::string_view> pieces{text};
  std::vector<std::string_view> cut;
  for (const Split& split : splits_) {
    cut.clear();
    for (const std::string_view piece : pieces) split.apply(piece, budget, cut);
    pieces.swap(cut);
  }
  std::string prefixed;
  for (std::string_view piece : pieces) {
    if (add_prefix_space_ && piece.front() != ' ') {
      prefixed.assign(1, ' ').append(piece);
      piece = prefixed;
    }
    if (!gpt2_split_) {
      sink(piece);
      continue;
    }
    cut.clear();
    gpt2_split_->apply(piece, budget, cut);
    for (const std::string_view word : cut) sink(word);
  }
}

}  // namespace sabrewing::text
