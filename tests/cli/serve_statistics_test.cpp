#include "cli/serve_statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cli/serve_load.h"
#include "core/error.h"
#include "core/mapped_file.h"

namespace sabrewing::cli {
namespace {

Json golden() {
  const std::string file = SABREWING_SOURCE_DIR "/tests/data/serve/statistics.json";
  return parse_json(read_text_file(file, 1 << 24), file);
}

std::vector<ServedRequest> golden_requests(const Json& json) {
  std::vector<ServedRequest> requests;
  for (const Json& item : json["requests"]) {
    ServedRequest request;
    request.success = item["success"];
    request.prompt_tokens = item["prompt_tokens"];
    request.output_tokens = item["output_tokens"];
    request.start = item["start"];
    request.ttft = item["ttft"];
    request.latency = item["latency"];
    request.itl = item["itl"].get<std::vector<double>>();
    requests.push_back(request);
  }
  return requests;
}

TEST(ServeStatistics, EqualsNumpy) {
  const Json json = golden();
  Goodput goodput;
  goodput.ttft = json["goodput_seconds"]["ttft"];
  goodput.tpot = json["goodput_seconds"]["tpot"];
  goodput.e2el = json["goodput_seconds"]["e2el"];
  ServeReport report;
  report.metrics = {"ttft", "tpot", "itl", "e2el"};
  report.percentiles = {25, 90, 99.9};
  report.request_rate = INFINITY;
  report.goodput = true;
  const Json result = report_json(summarise(golden_requests(json), json["duration"], goodput), report);
  EXPECT_EQ(result.size(), json["expected"].size());
  for (const auto& [key, expected] : json["expected"].items()) {
    ASSERT_TRUE(result.contains(key)) << key;
    EXPECT_NEAR(result[key].get<double>(), expected.get<double>(),
                1e-9 * (1 + std::abs(expected.get<double>())))
        << key;
  }
}

TEST(ServeStatistics, EmptyRunHasNoNumbersToDivideBy) {
  ServeReport report;
  report.metrics = {"ttft", "itl"};
  report.percentiles = {99};
  const Json result = report_json(summarise({}, 0, {}), report);
  EXPECT_EQ(result["completed"], 0);
  EXPECT_EQ(result["output_throughput"], 0.0);
  EXPECT_EQ(result["p99_ttft_ms"], 0.0);
  EXPECT_TRUE(result["request_goodput"].is_null());
  EXPECT_EQ(percentile({3}, 99), 3);
}

TEST(ServeStatistics, TableIsFiftyWide) {
  ServeReport report;
  report.metrics = {"ttft", "tpot"};
  report.percentiles = {99};
  report.request_rate = INFINITY;
  ServedRequest request;
  request.success = true;
  request.prompt_tokens = 5;
  request.output_tokens = 3;
  request.ttft = 0.5;
  request.latency = 1.5;
  request.itl = {0.25, 0.75};
  EXPECT_EQ(format_report(summarise({request}, 2, {}), report),
            "============ Serving Benchmark Result ============\n"
            "Successful requests:                     1         \n"
            "Failed requests:                         0         \n"
            "Benchmark duration (s):                  2.00      \n"
            "Total input tokens:                      5         \n"
            "Total generated tokens:                  3         \n"
            "Request throughput (req/s):              0.50      \n"
            "Output token throughput (tok/s):         1.50      \n"
            "Peak output token throughput (tok/s):    2.00      \n"
            "Peak concurrent requests:                1.00      \n"
            "Total token throughput (tok/s):          4.00      \n"
            "---------------Time to First Token----------------\n"
            "Mean TTFT (ms):                          500.00    \n"
            "Median TTFT (ms):                        500.00    \n"
            "P99 TTFT (ms):                           500.00    \n"
            "-----Time per Output Token (excl. 1st token)------\n"
            "Mean TPOT (ms):                          500.00    \n"
            "Median TPOT (ms):                        500.00    \n"
            "P99 TPOT (ms):                           500.00    \n"
            "==================================================\n");
}

TEST(ServeStatistics, GoodputTerms) {
  const Goodput goodput = parse_goodput({"ttft:200", "e2el:1500.5"});
  EXPECT_DOUBLE_EQ(goodput.ttft, 0.2);
  EXPECT_DOUBLE_EQ(goodput.e2el, 1.5005);
  EXPECT_LT(goodput.tpot, 0);
  for (const char* term : {"ttft", "ttft:", "ttft:-1", "ttft:1x", "itl:5", "ttft:nan"})
    EXPECT_THROW(parse_goodput({term}), Error) << term;
}

// Mean and spread of a gamma distribution: 1 / rate and 1 / (rate sqrt(shape)).
TEST(ServeLoad, GapsHaveTheRateAndBurstinessAskedFor) {
  for (const double burstiness : {0.25, 1.0, 4.0}) {
    const std::vector<double> times = arrival_times(20000, 50, burstiness, 3);
    EXPECT_NEAR(times.back(), 20000 / 50.0, 1e-9);
    std::vector<double> gaps;
    for (std::size_t i = 1; i < times.size(); ++i) gaps.push_back(times[i] - times[i - 1]);
    EXPECT_NEAR(deviation(gaps) / mean(gaps), 1 / std::sqrt(burstiness), 0.05 / std::sqrt(burstiness));
  }
  EXPECT_EQ(arrival_times(3, INFINITY, 1, 0), std::vector<double>(3));
}

TEST(ServeLoad, EventsInAnyPieces) {
  const std::string stream =
      ": comment\r\n\r\ndata: one\r\ndata:two\n\nevent: x\rdata: {\"a\": 1}\r\rid: 5\n\ndata\n\ndata: "
      "[DONE]\n\n"
      "data: unfinished\n";
  const std::vector<std::string> expected = {"one\ntwo", "{\"a\": 1}", "", "[DONE]"};
  for (std::size_t size = 1; size <= stream.size(); ++size) {
    SseReader reader;
    std::vector<std::string> events;
    for (std::size_t at = 0; at < stream.size(); at += size)
      reader.push(std::string_view(stream).substr(at, size),
                  [&](std::string_view data) { events.emplace_back(data); });
    EXPECT_EQ(events, expected) << "pieces of " << size;
  }
}

ServedRequest record(bool chat, const std::string& stream, int status = 200) {
  ServedRequest request;
  AnswerRecorder recorder(request, chat, true);
  const Clock::time_point begin{};
  // One event each 10 ms.
  Clock::time_point when = begin;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = std::min(stream.find("\n\n", at), stream.size() - 2) + 2;
    recorder.push(std::string_view(stream).substr(at, end - at), when += std::chrono::milliseconds(10));
    at = end;
  }
  HttpResponse response;
  response.status = status;
  response.started = begin;
  recorder.finish(response, begin);
  return request;
}

TEST(ServeLoad, RoleIsNoToken) {
  const ServedRequest request =
      record(true,
             "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
             "data: {\"choices\":[{\"delta\":{\"reasoning\":\"a\"}}]}\n\n"
             "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n"
             "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":7}}\n\n"
             "data: [DONE]\n\n");
  EXPECT_TRUE(request.success) << request.error;
  EXPECT_EQ(request.text, "ab");
  EXPECT_EQ(request.prompt_tokens, 9);
  EXPECT_EQ(request.output_tokens, 7);
  EXPECT_DOUBLE_EQ(request.ttft, 0.02);
  EXPECT_DOUBLE_EQ(request.latency, 0.03);
  ASSERT_EQ(request.itl.size(), 1U);
}

TEST(ServeLoad, BadStreamsAreFailures) {
  const std::string token = "data: {\"choices\":[{\"text\":\"x\"}]}\n\n";
  EXPECT_TRUE(record(false, token + "data: [DONE]\n\n").success);
  EXPECT_FALSE(record(false, token).success);
  EXPECT_FALSE(record(false, "data: [DONE]\n\n").success);
  EXPECT_FALSE(record(false, token + "data: {\"error\":{\"message\":\"m\"}}\n\ndata: [DONE]\n\n").success);
  EXPECT_FALSE(record(false, token + "data: {\n\ndata: [DONE]\n\n").success);
  EXPECT_FALSE(
      record(false, token + "data: {\"usage\":{\"prompt_tokens\":\"x\"}}\n\ndata: [DONE]\n\n").success);
  EXPECT_FALSE(record(false, token + "data: [DONE]\n\n", 500).success);
}

}  // namespace
}  // namespace sabrewing::cli
