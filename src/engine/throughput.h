#pragma once

#include <cstdint>
#include <functional>

#include "engine/engine.h"

namespace sabrewing::engine {

struct ThroughputOptions {
  std::int64_t requests = 16;
  std::int64_t streams = 16;  ///< requests open at once; the next is sent when one ends
  std::int64_t prompt_tokens = 128;
  std::int64_t output_tokens = 32;
  std::uint64_t seed = 0;
};

struct ThroughputResult {
  std::int64_t requests = 0;
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  double seconds = 0;  ///< from the first submission to the last token

  double requests_per_second() const { return static_cast<double>(requests) / seconds; }
  double output_tokens_per_second() const { return static_cast<double>(output_tokens) / seconds; }
  double total_tokens_per_second() const {
    return static_cast<double>(prompt_tokens + output_tokens) / seconds;
  }
};

/// Sends random prompts, answered greedily to their full length. `done` is told the count after each
/// request; returning false aborts the rest. Throws the first error of a request.
ThroughputResult measure_throughput(Engine& engine, const ThroughputOptions& options,
                                    const std::function<bool(std::int64_t requests)>& done);

}  // namespace sabrewing::engine
