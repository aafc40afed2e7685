#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "cli/http_client.h"
#include "cli/serve_statistics.h"
#include "cli/sse_reader.h"
#include "core/json.h"

namespace sabrewing::cli {

struct ServePrompt {
  Json content;             ///< text or token ids
  std::int64_t tokens = 0;  ///< 0: only the server knows
  std::int64_t output_tokens = 1;
};

struct PromptOptions {
  std::string data_set = "random";  ///< random, random-ids, custom
  std::string file;                 ///< of custom: JSON lines with "prompt" and perhaps "output_tokens"
  std::int64_t count = 1000;
  std::int64_t input_len = 1024;
  std::int64_t output_len = 128;
  double range_ratio = 0;       ///< lengths uniform in [(1 - r) len, (1 + r) len]
  std::int64_t vocab_size = 0;  ///< of random-ids; 0: ids that the server's tokenizer gives
  std::int64_t custom_output_len = 256;
  std::uint64_t seed = 0;
};

/// Prompts of one kind. `random` asks the server's /tokenize and /detokenize, so that a prompt has its length
/// in this model's tokens; `random-ids` asks once unless the size of the vocabulary is given. Throws `Error`.
std::vector<ServePrompt> make_prompts(const PromptOptions& options, HttpClient& client);

/// When each request starts, in seconds: gaps from a gamma distribution of shape `burstiness` (1: a Poisson
/// process), scaled so that the last starts at count / rate. All zero for an infinite rate.
std::vector<double> arrival_times(std::int64_t count, double rate, double burstiness, std::uint64_t seed);

/// Reads the events of one streamed answer with the times of its tokens. Every event with a choice counts,
/// but not one that only announces the role.
class AnswerRecorder {
 public:
  AnswerRecorder(ServedRequest& request, bool chat, bool keep_text)
      : request_(request), chat_(chat), keep_text_(keep_text) {}

  void push(std::string_view piece, Clock::time_point when);
  /// The answer has ended; `begin` is what `ServedRequest::start` counts from.
  void finish(const HttpResponse& response, Clock::time_point begin);

 private:
  void event(std::string_view data, Clock::time_point when);

  ServedRequest& request_;
  bool chat_;
  bool keep_text_;
  SseReader reader_;
  std::vector<Clock::time_point> times_;
  std::int64_t usage_output_ = 0;
  bool done_ = false;
};

}  // namespace sabrewing::cli
