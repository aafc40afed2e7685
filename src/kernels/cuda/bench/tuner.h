#pragma once

#include <optional>

#include "kernels/cuda/bench/gemm_bench.h"
#include "kernels/cuda/gemm/tuning.h"

namespace sabrewing::kernels::cuda {

struct TuneOptions {
  GemmBenchCases cases;   ///< `m` is taken up to the interval that holds it; empty for all intervals
  std::size_t limit = 8;  ///< candidates of the cost model that are timed
  bool rerun = false;     ///< time the fastest again and compare
  int ordinal = 0;
  std::int64_t burst_from = 128;
  double deadline_s = 0;  ///< no further size begins after it; 0: none
  /// Called before each size; false stops.
  std::function<bool(std::size_t step, std::size_t steps, const std::string& name)> progress;
};

struct TuneRow {
  std::string weights;
  std::string activations;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t m = 0;
  TunedChoice choice;
  double us_model = 0;  ///< of the cost model's first choice; 0 when that is wrong
  double rerun_us = 0;  ///< of the choice; 0 without a rerun
  double rerun_best_us = 0;
};

struct TuneResult {
  TuningTable table;
  std::vector<TuneRow> rows;
  std::vector<std::string> failures;  ///< candidates that are wrong, with the reason: never chosen
  std::vector<std::string> refusals;
  bool complete = true;
};

struct TimedCandidate {
  std::size_t index = 0;
  double us = 0;
  bool careful = false;
};
/// Times `count` candidates by `quick`, then by `careful` the first (the model's) and, from the fastest on,
/// so many others that `finalists` have a time. No time: the candidate is wrong and left out. The carefully
/// timed come first, each part fastest first.
std::vector<TimedCandidate> race(std::size_t count, std::size_t finalists,
                                 const std::function<std::optional<double>(std::size_t)>& quick,
                                 const std::function<std::optional<double>(std::size_t)>& careful);

/// Times the cost model's first candidates for each interval of M inside CUDA graphs: all of them quickly,
/// the fastest again with care. What may be chosen is checked against float64. Throws as `run_gemm_bench`
/// does.
TuneResult tune_gemm(const TuneOptions& options);

}  // namespace sabrewing::kernels::cuda
