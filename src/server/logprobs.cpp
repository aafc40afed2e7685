#include "server/logprobs.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace sabrewing::server {
namespace {

/// JSON has no infinities; vLLM's stand-in.
double finite(float logprob) { return std::isinf(logprob) ? -9999.0 : static_cast<double>(logprob); }

std::string name_of(const Service& service, std::int32_t id, bool as_ids) {
  return as_ids ? fmt::format("token_id:{}", id) : service.token_text(id);
}

OrderedJson bytes_of(const Service& service, std::int32_t id) {
  const text::Tokenizer* tokenizer = service.model().tokenizer.get();
  if (tokenizer == nullptr || !tokenizer->has_token(id)) return nullptr;
  OrderedJson bytes = OrderedJson::array();
  for (const char c : tokenizer->token_bytes(id)) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

}  // namespace

std::string CompletionLogprobs::text(std::int32_t id) const { return name_of(service_, id, as_ids_); }

void CompletionLogprobs::add_text(const std::string& text) {
  tokens_.push_back(text);
  offsets_.push_back(offset_);
  offset_ += std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

void CompletionLogprobs::add(std::int32_t id) {
  add_text(text(id));
  logprobs_.push_back(nullptr);
  top_.push_back(nullptr);
}

void CompletionLogprobs::add(const engine::TokenLogprobs& entry) {
  add_text(text(entry.chosen.id));
  logprobs_.push_back(finite(entry.chosen.logprob));
  OrderedJson top = OrderedJson::object();
  // Tokens of equal text (parts of characters): the likelier one stays.
  for (const engine::TokenLogprob& one : entry.top) {
    const std::string name = text(one.id);
    if (!top.contains(name)) top[name] = finite(one.logprob);
  }
  const std::string chosen = text(entry.chosen.id);
  if (!top.contains(chosen)) top[chosen] = finite(entry.chosen.logprob);
  top_.push_back(std::move(top));
}

OrderedJson CompletionLogprobs::take() {
  OrderedJson result = {{"tokens", std::move(tokens_)},
                        {"token_logprobs", std::move(logprobs_)},
                        {"top_logprobs", std::move(top_)},
                        {"text_offset", std::move(offsets_)}};
  tokens_ = logprobs_ = top_ = offsets_ = OrderedJson::array();
  return result;
}

OrderedJson chat_logprob(const Service& service, const engine::TokenLogprobs& entry, bool as_ids) {
  const auto one = [&](const engine::TokenLogprob& token) {
    return OrderedJson({{"token", name_of(service, token.id, as_ids)},
                        {"logprob", finite(token.logprob)},
                        {"bytes", bytes_of(service, token.id)}});
  };
  OrderedJson result = one(entry.chosen);
  OrderedJson top = OrderedJson::array();
  for (const engine::TokenLogprob& token : entry.top) top.push_back(one(token));
  result["top_logprobs"] = std::move(top);
  return result;
}

OrderedJson prompt_logprobs(const Service& service, const std::vector<engine::TokenLogprobs>& entries) {
  OrderedJson result = OrderedJson::array();
  result.push_back(nullptr);
  for (const engine::TokenLogprobs& entry : entries) {
    OrderedJson row = OrderedJson::object();
    const auto add = [&](const engine::TokenLogprob& token, OrderedJson rank) {
      const std::string key = std::to_string(token.id);
      if (row.contains(key)) return;
      row[key] = {{"logprob", finite(token.logprob)},
                  {"rank", std::move(rank)},
                  {"decoded_token", service.token_text(token.id)}};
    };
    const auto listed = std::find_if(entry.top.begin(), entry.top.end(),
                                     [&](const engine::TokenLogprob& t) { return t.id == entry.chosen.id; });
    if (listed == entry.top.end()) add(entry.chosen, nullptr);
    for (std::size_t i = 0; i < entry.top.size(); ++i) add(entry.top[i], i + 1);
    result.push_back(std::move(row));
  }
  return result;
}

}  // namespace sabrewing::server
