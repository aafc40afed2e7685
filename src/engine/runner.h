#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kv_cache.h"

namespace sabrewing::engine {

/// Consecutive tokens of one sequence in a step.
struct StepSequence {
  std::span<const std::int32_t> tokens;
  std::int64_t first_position = 0;       ///< of tokens[0]; everything before is in the cache
  std::span<const std::int32_t> blocks;  ///< covers first_position + tokens.size() positions
  bool all_logits = false;               ///< logits after every token instead of none
  bool last_logits = false;              ///< logits after the last token
};

/// Turns sequences into the arrays of a batch, runs the model and brings the logits to the host.
/// One caller at a time.
class Runner {
 public:
  Runner(models::Decoder& model, KvCache& cache, const models::Decoder::Limits& limits);

  /// Logits of the requested rows in order, (rows, vocabulary) FP32, valid until the next step.
  /// Throws `kInvalidArgument` for a token outside the vocabulary or a position outside the blocks.
  std::span<const float> step(std::span<const StepSequence> sequences);

  const models::Decoder::Limits& limits() const { return limits_; }
  KvCache& cache() { return cache_; }
  models::Decoder& model() { return model_; }

 private:
  models::Decoder& model_;
  KvCache& cache_;
  models::Decoder::Limits limits_;
  std::int64_t max_blocks_;
  kernels::DeviceBuffer arrays_;
  std::vector<std::int32_t> staging_;
  std::vector<float> logits_;
};

}  // namespace sabrewing::engine
