#pragma once

#include <cstdint>
#include <limits>

#include "server/fields.h"
#include "server/generation.h"
#include "server/service.h"

namespace sabrewing::server {

/// Bound of fields that count tokens: none but what the context holds.
inline constexpr std::int64_t kMostTokens = std::numeric_limits<std::int64_t>::max();

/// Reads the fields that say how tokens are chosen and when an answer ends, on top of the model's
/// generation_config.json; also `n`, `priority`, `cache_salt`, `skip_special_tokens`. Leaves `max_tokens`,
/// `logprobs`, `prompt_logprobs` and masks to the route.
void read_sampling(Fields& fields, const Service& service, GenerationRequest& request);

/// Checks the finished parameters; a wrong one is refused with its name as `param`.
void check_sampling(Fields& fields, const Service& service, const engine::SamplingParams& params);

/// `truncate_prompt_tokens`: only the last so many ids; -1: as many as the context holds.
void truncate_prompt(Fields& fields, const Service& service, std::vector<std::int32_t>& prompt);

/// `stream` and `stream_options`.
struct StreamOptions {
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
};
StreamOptions read_stream_options(Fields& fields);

/// How tokens are shown in an answer.
struct OutputOptions {
  bool tokens_as_ids = false;   ///< `return_tokens_as_token_ids`
  bool return_ids = false;      ///< `return_token_ids`
  bool stop_in_output = false;  ///< `include_stop_str_in_output`
};
OutputOptions read_output_options(Fields& fields);

}  // namespace sabrewing::server
