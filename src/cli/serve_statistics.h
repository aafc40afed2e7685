#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"

namespace sabrewing::cli {

/// What was seen of one answer. Times in seconds, `start` after the begin of the run.
struct ServedRequest {
  bool success = false;
  std::string error;
  std::string text;
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  double start = 0;
  double ttft = 0;          ///< to the first token
  double latency = 0;       ///< to the last token
  std::vector<double> itl;  ///< between the pieces that followed
};

/// numpy's: linear between the two nearest of the sorted values (`percent` of 0 to 100); 0 without values.
double percentile(std::vector<double> values, double percent);
double mean(const std::vector<double>& values);
/// Of the population (divided by n).
double deviation(const std::vector<double>& values);

/// Limits in seconds; negative: none.
struct Goodput {
  double ttft = -1;
  double tpot = -1;
  double e2el = -1;
  bool any() const { return ttft >= 0 || tpot >= 0 || e2el >= 0; }
};
/// From "ttft:200" and the like (milliseconds). Throws `kInvalidArgument`.
Goodput parse_goodput(const std::vector<std::string>& terms);

/// The figures of a run, named and defined as by `vllm bench serve`.
struct ServeStatistics {
  std::int64_t completed = 0;
  std::int64_t failed = 0;
  std::int64_t input_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t good = 0;
  double duration = 0;
  double peak_output_tokens_per_second = 0;  ///< most tokens in one second of the run
  std::int64_t peak_requests = 0;            ///< most requests open in one second of the run
  std::vector<double> ttft, tpot, itl, e2el;
};
ServeStatistics summarise(const std::vector<ServedRequest>& requests, double duration,
                          const Goodput& goodput);

struct ServeReport {
  std::vector<std::string> metrics;  ///< of ttft, tpot, itl, e2el
  std::vector<double> percentiles;
  double request_rate = 0;           ///< infinite: all at once
  std::int64_t max_concurrency = 0;  ///< 0: no limit
  bool goodput = false;
};
/// The table of 50 columns.
std::string format_report(const ServeStatistics& statistics, const ServeReport& report);
/// The same figures under the result file's keys.
OrderedJson report_json(const ServeStatistics& statistics, const ServeReport& report);

}  // namespace sabrewing::cli
