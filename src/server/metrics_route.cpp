// GET /metrics, in Prometheus' text format with vLLM's names where the meaning is the same.
#include <fmt/core.h>

#include <cmath>

#include "server/routes.h"

namespace sabrewing::server {
namespace {

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\' || c == '"') result += '\\';
    if (c == '\n')
      result += "\\n";
    else
      result += c;
  }
  return result;
}

class Page {
 public:
  explicit Page(const std::string& model)
      : labels_(fmt::format("model_name=\"{}\",engine=\"0\"", escaped(model))) {}

  void gauge(std::string_view name, std::string_view help, double value) {
    one(name, help, "gauge", name, value);
  }
  void counter(std::string_view name, std::string_view help, double value) {
    one(name, help, "counter", fmt::format("{}_total", name), value);
  }
  void head(std::string_view name, std::string_view help, std::string_view type) {
    text_ += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, help, type);
  }
  void line(std::string_view name, std::string_view more_labels, double value) {
    text_ +=
        fmt::format("{}{{{}{}{}}} {}\n", name, labels_, more_labels.empty() ? "" : ",", more_labels, value);
  }
  void histogram(std::string_view name, std::string_view help, const engine::Histogram& values) {
    head(name, help, "histogram");
    const std::string bucket = fmt::format("{}_bucket", name);
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < values.counts().size(); ++i) {
      sum += values.counts()[i];
      const std::string bound = i < values.bounds().size() ? fmt::format("{}", values.bounds()[i]) : "+Inf";
      line(bucket, fmt::format("le=\"{}\"", bound), static_cast<double>(sum));
    }
    line(fmt::format("{}_sum", name), {}, values.sum());
    line(fmt::format("{}_count", name), {}, static_cast<double>(values.total()));
  }
  std::string take() { return std::move(text_); }

 private:
  void one(std::string_view name, std::string_view help, std::string_view type, std::string_view sample,
           double value) {
    head(type == "counter" ? sample : name, help, type);
    line(sample, {}, value);
  }

  std::string labels_;
  std::string text_;
};

}  // namespace

void handle_metrics(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const engine::EngineStats s = service->engine().stats();
  const auto number = [](auto value) { return static_cast<double>(value); };
  Page page(service->model_name());
  page.gauge("vllm:num_requests_running", "Requests in steps now.", number(s.running));
  page.gauge("vllm:num_requests_waiting", "Requests in the queue.", number(s.waiting));
  page.gauge("vllm:kv_cache_usage_perc", "Share of the key/value cache that requests hold, 0 to 1.",
             s.blocks > 0 ? number(s.used_blocks) / number(s.blocks) : 0);
  page.counter("vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.",
               number(s.prefix_queries));
  page.counter("vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache.", number(s.prefix_hits));
  page.counter("vllm:num_preemptions", "Requests that gave their cache back for others.",
               number(s.preemptions));
  page.counter("vllm:prompt_tokens", "Prompt tokens of started requests.", number(s.prompt_tokens));
  page.counter("vllm:generation_tokens", "Tokens generated.", number(s.generated_tokens));
  page.head("vllm:request_success_total", "Ended requests by reason.", "counter");
  for (const engine::FinishReason reason : {engine::FinishReason::kStop, engine::FinishReason::kLength,
                                            engine::FinishReason::kAborted, engine::FinishReason::kError})
    page.line("vllm:request_success_total", fmt::format("finished_reason=\"{}\"", engine::to_string(reason)),
              number(s.finished[static_cast<std::size_t>(reason)]));
  page.histogram("vllm:iteration_tokens_total", "Tokens of one step.", s.step_tokens);
  page.histogram("vllm:time_to_first_token_seconds", "From submission to the first token.",
                 s.time_to_first_token);
  page.histogram("vllm:inter_token_latency_seconds", "Between tokens of a request.", s.inter_token_latency);
  page.histogram("vllm:request_time_per_output_token_seconds", "Mean of a request without its first token.",
                 s.time_per_output_token);
  page.histogram("vllm:e2e_request_latency_seconds", "From submission to the end.", s.end_to_end);
  page.histogram("vllm:request_queue_time_seconds", "From submission to the first step.", s.queue_time);
  page.histogram("vllm:request_prefill_time_seconds", "From the first step to the first token.",
                 s.prefill_time);
  page.histogram("vllm:request_decode_time_seconds", "From the first to the last token.", s.decode_time);
  page.histogram("vllm:request_inference_time_seconds", "From the first step to the end.", s.inference_time);
  page.histogram("vllm:request_prompt_tokens", "Tokens of a prompt.", s.request_prompt_tokens);
  page.histogram("vllm:request_generation_tokens", "Tokens of an answer.", s.request_generated_tokens);
  page.histogram("vllm:request_params_max_tokens", "Longest answer asked for.", s.request_max_tokens);
  page.gauge("sabrewing:kv_cache_blocks", "Blocks of the key/value cache.", number(s.blocks));
  page.gauge("sabrewing:kv_cache_blocks_used", "Blocks that requests hold.", number(s.used_blocks));
  page.counter("sabrewing:steps", "Steps of the model.", number(s.steps));
  page.counter("sabrewing:step_seconds", "Time in the model.", s.step_seconds);
  page.counter("sabrewing:host_seconds", "Time in scheduling, sampling and text.", s.host_seconds);
  if (service->http_counts) {
    const HttpCounts http = service->http_counts();
    page.gauge("sabrewing:http_connections", "Open connections.", number(http.open));
    page.counter("sabrewing:http_connections_accepted", "Connections so far.", number(http.accepted));
    page.counter("sabrewing:http_connections_turned_away",
                 "Connections closed to make room, or for lack of it.", number(http.turned_away));
    page.counter("sabrewing:http_requests", "Requests so far.", number(http.requests));
    page.counter("sabrewing:http_clients_cut_off", "Clients too slow to take their answer.",
                 number(http.cut_off));
  }
  Response response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = page.take();
  exchange->respond(std::move(response));
}

}  // namespace sabrewing::server
