#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/request.h"

namespace sabrewing::engine {

/// Counts of values by upper bound, as Prometheus has them.
class Histogram {
 public:
  /// `bounds` ascend.
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

  void add(double value);

  std::span<const double> bounds() const { return bounds_; }
  /// Values <= bounds()[i] and above the bound before; the last entry counts those above all bounds.
  std::span<const std::uint64_t> counts() const { return counts_; }
  std::uint64_t total() const { return total_; }
  double sum() const { return sum_; }

 private:
  std::vector<double> bounds_;
  std::vector<std::uint64_t> counts_;
  std::uint64_t total_ = 0;
  double sum_ = 0;
};

/// The state and the history of an engine. Counters never fall.
struct EngineStats {
  // Now.
  std::int64_t running = 0;
  std::int64_t waiting = 0;
  std::int64_t blocks = 0;         ///< of the key/value cache
  std::int64_t used_blocks = 0;    ///< held by requests
  std::int64_t cached_blocks = 0;  ///< held by nobody, kept for a later prompt

  // Since the start.
  std::uint64_t prefix_queries = 0;  ///< prompt tokens looked up
  std::uint64_t prefix_hits = 0;     ///< of these, found
  std::uint64_t preemptions = 0;
  std::uint64_t prompt_tokens = 0;  ///< of prompts that were computed
  std::uint64_t generated_tokens = 0;
  std::uint64_t steps = 0;
  double step_seconds = 0;                  ///< in the model
  double host_seconds = 0;                  ///< scheduling, sampling, text, sinks
  std::array<std::uint64_t, 4> finished{};  ///< by FinishReason

  // Seconds; the names and bounds of vLLM.
  Histogram time_to_first_token;
  Histogram inter_token_latency;
  Histogram time_per_output_token;  ///< mean of a request, without its first token
  Histogram end_to_end;
  Histogram queue_time;
  Histogram prefill_time;
  Histogram decode_time;
  Histogram inference_time;  ///< from the first step to the end
  // Tokens.
  Histogram step_tokens;  ///< of one step
  Histogram request_prompt_tokens;
  Histogram request_generated_tokens;
  Histogram request_max_tokens;

  EngineStats();
};

}  // namespace sabrewing::engine
