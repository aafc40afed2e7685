#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "engine/sampler.h"

namespace sabrewing::engine {

/// Longest prompt and answer together where none is asked for, the model allowing it.
inline constexpr std::int64_t kDefaultContext = 32768;

/// Counts up from 1 in the order of submission; never used twice.
using RequestId = std::uint64_t;

enum class FinishReason { kStop, kLength, kAborted, kError };

/// "stop", "length", "abort", "error"
std::string_view to_string(FinishReason reason);

/// Restricts the next token of one request, as a grammar does. Called by one thread at a time.
class TokenMask {
 public:
  virtual ~TokenMask() = default;

  /// Writes one bit per token, token t in bit t % 32 of word t / 32: set when t may come next. `words` covers
  /// the vocabulary.
  virtual void fill(std::span<std::uint32_t> words) = 0;
  /// Takes the chosen token, one of those allowed.
  virtual void accept(std::int32_t id) = 0;
  /// Nothing may follow: the answer ends here as with a stop token.
  virtual bool finished() const = 0;
};

/// One answer to one prompt. Several answers to a prompt are several requests: they share its cache blocks,
/// and all but the first wait for them.
struct Request {
  std::vector<std::int32_t> prompt;
  SamplingParams sampling;    ///< `max_tokens` is cut to what the context leaves
  std::int32_t priority = 0;  ///< lower runs first
  /// Set: the log-probabilities of the prompt's tokens and the n likeliest at each, from the second on.
  std::optional<std::int64_t> prompt_logprobs;
  bool prompt_only = false;         ///< ends after the prompt, without a token
  bool skip_special_tokens = true;  ///< leaves special tokens out of the text
  std::string cache_salt;           ///< only requests of equal salt share cached prompts
  std::shared_ptr<TokenMask> mask;  ///< may be null
};

struct OutputToken {
  std::int32_t id = 0;
  std::string text;        ///< what became certain with this token; empty while bytes are held back
  TokenLogprobs logprobs;  ///< empty unless `SamplingParams::logprobs` is set
};

struct Usage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t cached_tokens = 0;  ///< of the prompt, found in the cache
};

/// Seconds; 0 for what was not reached.
struct RequestTimes {
  double queue = 0;        ///< from submission to the first step
  double prefill = 0;      ///< from the first step to the first token
  double first_token = 0;  ///< from submission to the first token
  double decode = 0;       ///< from the first to the last token
  double total = 0;        ///< from submission to the end
};

/// What one step brought to one request.
struct RequestUpdate {
  RequestId id = 0;
  /// New tokens in order. A token that ended the answer is included, with empty text.
  std::vector<OutputToken> tokens;
  /// New entries for the prompt's second token onwards, in order; all arrive before the first token.
  std::vector<TokenLogprobs> prompt_logprobs;
  Usage usage;            ///< up to now
  bool finished = false;  ///< the last update of this request
  // When finished:
  FinishReason reason = FinishReason::kStop;
  std::optional<std::string> stop_string;  ///< the stop string found; not part of the text
  std::optional<std::int32_t>
      stop_token;              ///< the id of `stop_token_ids` that ended it; not set for an end token
  std::optional<Error> error;  ///< with `kError`
  RequestTimes times;
};

/// Hears of one request, in order, on the engine's thread; what it throws aborts the request.
using RequestSink = std::function<void(const RequestUpdate&)>;

}  // namespace sabrewing::engine
