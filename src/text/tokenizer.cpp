#include "text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "text/byte_level.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace sabrewing::text {

namespace {

void check_utf8(std::string_view text) {
  if (const auto bad = find_invalid_utf8(text)) {
    fail(ErrorCode::kInvalidArgument, "[tokenizer] the text is not valid UTF-8: byte 0x{:02x} at position {}",
         static_cast<unsigned>(static_cast<unsigned char>(text[*bad])), *bad);
  }
}

}  // namespace

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens,
                                            bool parse_special) const {
  check_utf8(text);
  std::vector<std::int32_t> ids;
  SearchBudget budget(text.size());
  const auto encode_piece = [&](std::string_view piece) { impl_->bpe.encode(piece, ids); };
  for (const auto& part : impl_->raw_added.cut(text, parse_special)) {
    if (part.id) {
      ids.push_back(*part.id);
      continue;
    }
    std::string normalized;
    std::string_view between = text.substr(part.begin, part.end - part.begin);
    if (!impl_->normalizer.empty()) between = normalized = impl_->normalizer.apply(between, budget);
    for (const auto& inner : impl_->normalized_added.cut(between, parse_special)) {
      if (inner.id) {
        ids.push_back(*inner.id);
      } else {
        impl_->pretokenizer.apply(between.substr(inner.begin, inner.end - inner.begin), budget, encode_piece);
      }
    }
  }
  return add_special_tokens ? with_special_tokens(std::move(ids)) : ids;
}

std::vector<std::int32_t> Tokenizer::encode_plain(std::string_view text) const {
  check_utf8(text);
  std::vector<std::int32_t> ids;
  SearchBudget budget(text.size());
  std::string normalized;
  if (!impl_->normalizer.empty()) text = normalized = impl_->normalizer.apply(text, budget);
  impl_->pretokenizer.apply(text, budget, [&](std::string_view piece) { impl_->bpe.encode(piece, ids); });
  return ids;
}

std::vector<std::int32_t> Tokenizer::with_special_tokens(std::vector<std::int32_t> ids) const {
  ids.insert(ids.begin(), impl_->prefix.begin(), impl_->prefix.end());
  ids.insert(ids.end(), impl_->suffix.begin(), impl_->suffix.end());
  return ids;
}

std::vector<Tokenizer::AddedSpan> Tokenizer::added_tokens(std::string_view text) const {
  std::vector<AddedSpan> spans;
  for (const auto& part : impl_->raw_added.cut(text, true)) {
    if (part.id) {
      spans.push_back({*part.id, part.begin, part.end});
      continue;
    }
    for (const auto& inner :
         impl_->normalized_added.cut(text.substr(part.begin, part.end - part.begin), true))
      if (inner.id) spans.push_back({*inner.id, part.begin + inner.begin, part.begin + inner.end});
  }
  return spans;
}

std::size_t Tokenizer::unfinished_token(std::string_view text) const {
  return std::min(impl_->raw_added.unfinished(text), impl_->normalized_added.unfinished(text));
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    const std::string_view token = token_bytes(id);
    if (!skip_special_tokens || !is_special(id)) bytes += token;
  }
  std::string text;
  text.reserve(bytes.size());
  append_utf8_lossy(text, bytes);
  return text;
}

std::string_view Tokenizer::token_bytes(std::int32_t id) const {
  SABREWING_CHECK(id >= 0 && id < vocab_size(), kInvalidArgument, "[tokenizer] token id {} is not in [0, {})",
                  id, vocab_size());
  SABREWING_CHECK(has_token(id), kInvalidArgument, "[tokenizer] the vocabulary has no token with id {}", id);
  return impl_->tokens[static_cast<std::size_t>(id)].bytes;
}

std::optional<std::int32_t> Tokenizer::token_id(std::string_view token) const {
  const auto named = impl_->names.find(token);
  if (named != impl_->names.end()) return named->second;
  if (find_invalid_utf8(token)) return std::nullopt;
  const auto bytes = from_byte_level(token);
  return bytes ? impl_->bpe.find(*bytes) : std::nullopt;
}

bool Tokenizer::has_token(std::int32_t id) const {
  return id >= 0 && id < vocab_size() && impl_->tokens[static_cast<std::size_t>(id)].present;
}

bool Tokenizer::is_special(std::int32_t id) const {
  return has_token(id) && impl_->tokens[static_cast<std::size_t>(id)].special;
}

std::int32_t Tokenizer::vocab_size() const { return static_cast<std::int32_t>(impl_->tokens.size()); }

}  // namespace sabrewing::text
