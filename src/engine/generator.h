#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/loader.h"
#include "engine/request.h"
#include "engine/runner.h"
#include "engine/sampler.h"

namespace sabrewing::engine {

struct Generation {
  std::vector<std::int32_t> ids;        ///< an end token that stopped it included
  std::string text;                     ///< without end tokens and without what a stop string cut
  std::vector<TokenLogprobs> logprobs;  ///< one per id when asked for
  FinishReason finish = FinishReason::kLength;
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;  ///< of the prompt, taken over from the call before
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

/// One token of a running generation. `text` may be empty while bytes are held back.
struct GeneratedToken {
  std::int32_t id;
  std::string_view text;
};

/// Returns false to stop.
using TokenCallback = std::function<bool(const GeneratedToken&)>;

struct GeneratorOptions {
  std::int64_t max_context = 0;  ///< 0: the model's, at most `kDefaultContext`
  std::int64_t block_size = 16;
  std::int64_t prefill_chunk = 512;
};

/// Bytes, known before any is taken.
struct MemoryPlan {
  std::size_t weights = 0;
  std::size_t cache = 0;
  std::size_t workspace = 0;
  std::size_t staging = 0;  ///< of the checkpoint, in the host's memory while weights are packed

  std::size_t total() const { return weights + cache + workspace + staging; }
};

/// Answers one request at a time on a loaded model. Keeps the cache of the last call and reuses its common
/// prefix. One caller at a time.
class Generator {
 public:
  Generator(LoadedModel& model, const GeneratorOptions& options);

  /// What running the model with these options takes. Needs no weights.
  static MemoryPlan plan_memory(const LoadedModel& model, const GeneratorOptions& options);
  /// The context length that these options give.
  static std::int64_t context_tokens(const LoadedModel& model, const GeneratorOptions& options);

  /// Throws `kInvalidArgument` for an empty prompt, one that fills the context (with both numbers), or a
  /// token outside the vocabulary. Needs no weights.
  static void check_prompt(const LoadedModel& model, const GeneratorOptions& options,
                           std::span<const std::int32_t> prompt);

  /// Throws what `check_prompt` throws, and what the sampler throws for NaN logits.
  /// `skip_special_tokens`: leaves them out of the text.
  Generation generate(std::span<const std::int32_t> prompt, const SamplingParams& params,
                      const TokenCallback& on_token, bool skip_special_tokens = true);

  Runner& runner() { return runner_; }
  std::int64_t max_context() const { return limits_.max_context; }

 private:
  static models::Decoder::Limits make_limits(const LoadedModel& model, const GeneratorOptions& options);
  std::span<const float> feed(std::span<const std::int32_t> ids);

  LoadedModel& model_;
  models::Decoder::Limits limits_;
  KvCache cache_;
  Runner runner_;
  std::vector<std::int32_t> blocks_;
  std::vector<std::int32_t> cached_;  ///< ids whose keys and values are in `blocks_`
};

}  // namespace sabrewing::engine
