#include "text/detokenizer.h"

#include "text/utf8.h"

namespace sabrewing::text {

std::string Detokenizer::push(std::int32_t id) {
  const std::string_view bytes = tokenizer_.token_bytes(id);
  std::string text;
  if (skip_special_tokens_ && tokenizer_.is_special(id)) return text;
  pending_ += bytes;
  const std::size_t ready = pending_.size() - incomplete_utf8_suffix(pending_);
  append_utf8_lossy(text, std::string_view(pending_).substr(0, ready));
  pending_.erase(0, ready);
  return text;
}

std::string Detokenizer::flush() {
  std::string text;
  append_utf8_lossy(text, pending_);
  pending_.clear();
  return text;
}

}  // namespace sabrewing::text
