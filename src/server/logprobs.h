#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "server/service.h"

namespace sabrewing::server {

/// Log-probabilities in the forms that the routes answer with.

/// {"tokens", "token_logprobs", "top_logprobs", "text_offset"} of /v1/completions.
class CompletionLogprobs {
 public:
  /// `top`: null in place of `top_logprobs` when nothing was asked for. `as_ids`: "token_id:7" for texts.
  CompletionLogprobs(const Service& service, bool as_ids) : service_(service), as_ids_(as_ids) {}

  /// The first token of a prompt, of which nothing is known.
  void add(std::int32_t id);
  void add(const engine::TokenLogprobs& entry);
  /// What was added since the last call; offsets go on.
  OrderedJson take();

 private:
  std::string text(std::int32_t id) const;
  void add_text(const std::string& text);

  const Service& service_;
  bool as_ids_;
  OrderedJson tokens_ = OrderedJson::array();
  OrderedJson logprobs_ = OrderedJson::array();
  OrderedJson top_ = OrderedJson::array();
  OrderedJson offsets_ = OrderedJson::array();
  std::int64_t offset_ = 0;  ///< code points so far
};

/// An entry of "content" in the logprobs of /v1/chat/completions.
OrderedJson chat_logprob(const Service& service, const engine::TokenLogprobs& entry, bool as_ids);

/// vLLM's `prompt_logprobs`: null for the first token, then {"7": {"logprob", "rank", "decoded_token"}}. The
/// rank is null for a token that is not among the likeliest asked for.
OrderedJson prompt_logprobs(const Service& service, const std::vector<engine::TokenLogprobs>& entries);

}  // namespace sabrewing::server
