#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/generator.h"

namespace sabrewing::engine {

/// Mean, deviation and extremes of repeated timings, in seconds.
struct TimingSummary {
  double mean = 0;
  double deviation = 0;
  double fastest = 0;
  double median = 0;
};
TimingSummary summarise(std::vector<double> seconds);

struct LatencyOptions {
  std::int64_t prompt_tokens = 128;
  std::int64_t output_tokens = 32;
  std::int64_t repeats = 3;
  std::uint64_t seed = 0;
};

struct LatencyResult {
  TimingSummary prefill;            ///< of a whole prompt
  TimingSummary decode;             ///< of one token
  std::size_t bytes_per_token = 0;  ///< weights that one decoded token reads
  /// Two per multiply-add of the model's matrix products for every prompt token, lm_head left out. A run does
  /// less: behind the last layer's attention only the last token goes on.
  double flops_per_prompt = 0;
};

/// Times random prompts, one sequence at a time. `done` hears of each repeat and how long its prompt took;
/// false stops.
LatencyResult measure_latency(LoadedModel& model, Generator& generator, const LatencyOptions& options,
                              const std::function<bool(std::int64_t repeat, double prefill_seconds)>& done);

/// Bytes of weights that one token reads: every dense matrix once, top_k of the experts, one embedding row.
std::size_t weight_bytes_per_token(const LoadedModel& model);

}  // namespace sabrewing::engine
