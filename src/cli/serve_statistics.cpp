#include "cli/serve_statistics.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace sabrewing::cli {
namespace {

struct Metric {
  const char* key;
  const char* name;
  const char* title;
  std::vector<double> ServeStatistics::* values;
};
constexpr Metric kMetrics[] = {
    {"ttft", "TTFT", "Time to First Token", &ServeStatistics::ttft},
    {"tpot", "TPOT", "Time per Output Token (excl. 1st token)", &ServeStatistics::tpot},
    {"itl", "ITL", "Inter-token Latency", &ServeStatistics::itl},
    {"e2el", "E2EL", "End-to-end Latency", &ServeStatistics::e2el},
};

std::string percent_name(double percent) { return fmt::format("{}", percent); }

std::string ruled(std::string_view text, char fill) {
  constexpr std::size_t kWidth = 50;
  const std::size_t space = kWidth - std::min(kWidth, text.size());
  return std::string(space / 2, fill).append(text).append(std::string(space - space / 2, fill)) + "\n";
}

template <typename Function>
void for_each_metric(const ServeReport& report, const Function& function) {
  for (const Metric& metric : kMetrics)
    if (std::find(report.metrics.begin(), report.metrics.end(), metric.key) != report.metrics.end())
      function(metric);
}

double per_second(double count, double duration) { return duration > 0 ? count / duration : 0; }

void find_peaks(const std::vector<ServedRequest>& requests, ServeStatistics& result) {
  double first = INFINITY;
  double last = -INFINITY;
  for (const ServedRequest& request : requests)
    if (request.success) {
      first = std::min(first, request.start);
      last = std::max(last, request.start + request.latency);
    }
  if (first > last) return;
  std::vector<double> tokens(static_cast<std::size_t>(std::ceil(last - first)) + 1);
  std::vector<std::int64_t> open(tokens.size());
  const auto second = [&](double time) {
    return std::min(static_cast<std::size_t>(std::max(time - first, 0.0)), tokens.size() - 1);
  };
  for (const ServedRequest& request : requests) {
    if (!request.success) continue;
    double time = request.start + request.ttft;
    ++tokens[second(time)];
    for (const double gap : request.itl) ++tokens[second(time += gap)];
    for (std::size_t s = second(request.start); s <= second(request.start + request.latency); ++s) ++open[s];
  }
  result.peak_output_tokens_per_second = *std::max_element(tokens.begin(), tokens.end());
  result.peak_requests = *std::max_element(open.begin(), open.end());
}

}  // namespace

double percentile(std::vector<double> values, double percent) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double place = percent / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

double mean(const std::vector<double>& values) {
  return values.empty()
             ? 0
             : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation(const std::vector<double>& values) {
  if (values.empty()) return 0;
  const double middle = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - middle) * (value - middle);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

Goodput parse_goodput(const std::vector<std::string>& terms) {
  Goodput result;
  for (const std::string& term : terms) {
    const std::size_t colon = term.find(':');
    const std::string key = term.substr(0, colon);
    double milliseconds = -1;
    if (colon != std::string::npos) {
      const char* end = term.data() + term.size();
      const auto [stop, error] = std::from_chars(term.data() + colon + 1, end, milliseconds);
      if (error != std::errc() || stop != end || !std::isfinite(milliseconds)) milliseconds = -1;
    }
    SABREWING_CHECK(milliseconds >= 0 && (key == "ttft" || key == "tpot" || key == "e2el"), kInvalidArgument,
                    "[bench serve] --goodput {}: expected ttft:MS, tpot:MS or e2el:MS", term);
    (key == "ttft" ? result.ttft : key == "tpot" ? result.tpot : result.e2el) = milliseconds / 1000;
  }
  return result;
}

ServeStatistics summarise(const std::vector<ServedRequest>& requests, double duration,
                          const Goodput& goodput) {
  ServeStatistics result;
  result.duration = duration;
  for (const ServedRequest& request : requests) {
    if (!request.success) {
      ++result.failed;
      continue;
    }
    ++result.completed;
    result.input_tokens += request.prompt_tokens;
    result.output_tokens += request.output_tokens;
    double tpot = 0;
    if (request.output_tokens > 1) {
      tpot = (request.latency - request.ttft) / static_cast<double>(request.output_tokens - 1);
      result.tpot.push_back(tpot);
    }
    result.ttft.push_back(request.ttft);
    result.itl.insert(result.itl.end(), request.itl.begin(), request.itl.end());
    result.e2el.push_back(request.latency);
    const auto within = [](double value, double limit) { return limit < 0 || value <= limit; };
    if (goodput.any() && within(request.ttft, goodput.ttft) && within(tpot, goodput.tpot) &&
        within(request.latency, goodput.e2el))
      ++result.good;
  }
  find_peaks(requests, result);
  return result;
}

std::string format_report(const ServeStatistics& s, const ServeReport& report) {
  std::string text = ruled(" Serving Benchmark Result ", '=');
  const auto count = [&](const char* label, std::int64_t value) {
    text += fmt::format("{:<40} {:<10}\n", label, value);
  };
  const auto value = [&](const std::string& label, double number) {
    text += fmt::format("{:<40} {:<10.2f}\n", label, number);
  };
  count("Successful requests:", s.completed);
  count("Failed requests:", s.failed);
  if (report.max_concurrency > 0) count("Maximum request concurrency:", report.max_concurrency);
  if (std::isfinite(report.request_rate)) value("Request rate configured (RPS):", report.request_rate);
  value("Benchmark duration (s):", s.duration);
  count("Total input tokens:", s.input_tokens);
  count("Total generated tokens:", s.output_tokens);
  value("Request throughput (req/s):", per_second(static_cast<double>(s.completed), s.duration));
  if (report.goodput) value("Request goodput (req/s):", per_second(static_cast<double>(s.good), s.duration));
  value("Output token throughput (tok/s):", per_second(static_cast<double>(s.output_tokens), s.duration));
  value("Peak output token throughput (tok/s):", s.peak_output_tokens_per_second);
  value("Peak concurrent requests:", static_cast<double>(s.peak_requests));
  value("Total token throughput (tok/s):",
        per_second(static_cast<double>(s.input_tokens + s.output_tokens), s.duration));
  for_each_metric(report, [&](const Metric& metric) {
    const std::vector<double>& values = s.*metric.values;
    text += ruled(metric.title, '-');
    value(fmt::format("Mean {} (ms):", metric.name), mean(values) * 1000);
    value(fmt::format("Median {} (ms):", metric.name), percentile(values, 50) * 1000);
    for (const double percent : report.percentiles)
      value(fmt::format("P{} {} (ms):", percent_name(percent), metric.name),
            percentile(values, percent) * 1000);
  });
  return text + ruled("", '=');
}

OrderedJson report_json(const ServeStatistics& s, const ServeReport& report) {
  OrderedJson json = {{"duration", s.duration},
                      {"completed", s.completed},
                      {"failed", s.failed},
                      {"total_input_tokens", s.input_tokens},
                      {"total_output_tokens", s.output_tokens},
                      {"request_throughput", per_second(static_cast<double>(s.completed), s.duration)}};
  json["request_goodput"] =
      report.goodput ? OrderedJson(per_second(static_cast<double>(s.good), s.duration)) : OrderedJson();
  json["output_throughput"] = per_second(static_cast<double>(s.output_tokens), s.duration);
  json["total_token_throughput"] =
      per_second(static_cast<double>(s.input_tokens + s.output_tokens), s.duration);
  json["max_output_tokens_per_s"] = s.peak_output_tokens_per_second;
  json["max_concurrent_requests"] = s.peak_requests;
  for_each_metric(report, [&](const Metric& metric) {
    const std::vector<double>& values = s.*metric.values;
    json[fmt::format("mean_{}_ms", metric.key)] = mean(values) * 1000;
    json[fmt::format("median_{}_ms", metric.key)] = percentile(values, 50) * 1000;
    json[fmt::format("std_{}_ms", metric.key)] = deviation(values) * 1000;
    for (const double percent : report.percentiles)
      json[fmt::format("p{}_{}_ms", percent_name(percent), metric.key)] = percentile(values, percent) * 1000;
  });
  return json;
}

}  // namespace sabrewing::cli
