#include "engine/stop.h"

#include <algorithm>
#include <utility>

namespace sabrewing::engine {

StopChecker::StopChecker(const std::vector<std::string>& stop) {
  for (const std::string& text : stop) {
    if (text.empty()) continue;
    Pattern pattern{text, std::vector<std::size_t>(text.size() + 1), 0};
    for (std::size_t i = 1; i < text.size(); ++i) {
      std::size_t border = pattern.failure[i];
      while (border > 0 && text[i] != text[border]) border = pattern.failure[border];
      pattern.failure[i + 1] = border + (text[i] == text[border] ? 1 : 0);
    }
    patterns_.push_back(std::move(pattern));
  }
}

std::string StopChecker::push(std::string_view piece) {
  if (stopped()) return {};
  for (const char byte : piece) {
    pending_.push_back(byte);
    for (Pattern& pattern : patterns_) {
      while (pattern.state > 0 && pattern.text[pattern.state] != byte)
        pattern.state = pattern.failure[pattern.state];
      if (pattern.text[pattern.state] == byte) ++pattern.state;
      if (pattern.state == pattern.text.size() && (!matched_ || pattern.text.size() > matched_->size()))
        matched_ = pattern.text;
    }
    if (matched_) {
      pending_.resize(pending_.size() - matched_->size());
      return std::exchange(pending_, {});
    }
  }
  std::size_t held = 0;
  for (const Pattern& pattern : patterns_) held = std::max(held, pattern.state);
  std::string safe = pending_.substr(0, pending_.size() - held);
  pending_.erase(0, safe.size());
  return safe;
}

std::string StopChecker::flush() {
  for (Pattern& pattern : patterns_) pattern.state = 0;
  return std::exchange(pending_, {});
}

}  // namespace sabrewing::engine
