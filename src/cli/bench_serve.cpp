#include "cli/bench_serve.h"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <cmath>
#include <ctime>
#include <fstream>
#include <thread>

#include "cli/http_client.h"
#include "cli/progress.h"
#include "cli/serve_load.h"
#include "cli/serve_statistics.h"
#include "core/error.h"

namespace sabrewing::cli {
namespace {

struct BenchServeArguments {
  std::string base_url = "http://127.0.0.1:8000";
  std::string backend = "openai";
  std::string endpoint;
  std::string model;
  std::string api_key;
  PromptOptions prompts;
  double request_rate = INFINITY;
  double burstiness = 1;
  std::int64_t max_concurrency = 0;
  std::int64_t warmups = 0;
  std::int64_t ready_seconds = 600;
  double temperature = 0;
  std::string extra_body;
  bool ignore_eos = false;
  std::string percentile_metrics = "ttft,tpot,itl,e2el";
  std::string metric_percentiles = "99";
  std::vector<std::string> goodput;
  bool save_result = false;
  bool save_detailed = false;
  std::string result_dir;
  std::string result_filename;
  bool json = false;

  bool chat() const { return backend == "openai-chat"; }
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    if (end > at) parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

ServeReport make_report(const BenchServeArguments& options) {
  ServeReport report;
  report.metrics = split(options.percentile_metrics);
  for (const std::string& metric : report.metrics)
    SABREWING_CHECK(metric == "ttft" || metric == "tpot" || metric == "itl" || metric == "e2el",
                    kInvalidArgument,
                    "[bench serve] --percentile-metrics {}: known are ttft, tpot, itl, e2el", metric);
  for (const std::string& text : split(options.metric_percentiles)) {
    double value = -1;
    SABREWING_CHECK(CLI::detail::lexical_cast(text, value) && value >= 0 && value <= 100, kInvalidArgument,
                    "[bench serve] --metric-percentiles {}: expected numbers of 0 to 100", text);
    report.percentiles.push_back(value);
  }
  report.request_rate = options.request_rate;
  report.max_concurrency = options.max_concurrency;
  report.goodput = !options.goodput.empty();
  return report;
}

class Benchmark {
 public:
  explicit Benchmark(const BenchServeArguments& options)
      : options_(options),
        client_({parse_base_url(options.base_url), options.api_key}),
        extra_(options.extra_body.empty() ? Json::object() : parse_json(options.extra_body, "--extra-body")) {
    SABREWING_CHECK(extra_.is_object(), kInvalidArgument, "[bench serve] --extra-body is no JSON object");
    endpoint_ = options.endpoint;
    if (endpoint_.empty()) endpoint_ = options.chat() ? "/v1/chat/completions" : "/v1/completions";
  }

  int operator()() {
    const ServeReport report = make_report(options_);
    const Goodput goodput = parse_goodput(options_.goodput);
    SABREWING_CHECK(!options_.chat() || options_.prompts.data_set != "random-ids", kInvalidArgument,
                    "[bench serve] --dataset-name random-ids needs --backend openai: a chat message is text");
    SABREWING_CHECK(options_.prompts.data_set != "custom" || !options_.prompts.file.empty(), kInvalidArgument,
                    "[bench serve] --dataset-name custom needs --dataset-path");
    catch_interrupt();
    wait_for_server();
    model_ = options_.model.empty() ? first_served_model(client_) : options_.model;
    prompts_ = make_prompts(options_.prompts, client_);
    try_one_prompt();
    run(std::vector<ServePrompt>(static_cast<std::size_t>(options_.warmups), prompts_.front()), "warming up",
        {});
    const std::vector<double> starts =
        arrival_times(static_cast<std::int64_t>(prompts_.size()), options_.request_rate, options_.burstiness,
                      options_.prompts.seed);
    const double duration = run(prompts_, "requests", starts);
    const ServeStatistics statistics = summarise(served_, duration, goodput);
    for (const ServedRequest& request : served_)
      if (!request.success && !request.error.empty()) {
        fmt::print(stderr, "the first of {} failures: {}\n", statistics.failed, request.error);
        break;
      }
    const OrderedJson json = result(statistics, report);
    if (options_.json)
      fmt::print("{}\n", json.dump(2));
    else
      fmt::print("{}", format_report(statistics, report));
    if (options_.save_result) save(json);
    return interrupted() || statistics.failed > 0 ? 1 : 0;
  }

 private:
  std::string body(const ServePrompt& prompt) const {
    Json json = {{"model", model_},
                 {"temperature", options_.temperature},
                 {"stream", true},
                 {"stream_options", {{"include_usage", true}}}};
    if (options_.chat()) {
      json["messages"] = Json::array({{{"role", "user"}, {"content", prompt.content}}});
      json["max_completion_tokens"] = prompt.output_tokens;
    } else {
      json["prompt"] = prompt.content;
      json["max_tokens"] = prompt.output_tokens;
    }
    if (options_.ignore_eos) json["ignore_eos"] = true;
    json.update(extra_);
    return json.dump();
  }

  void wait_for_server() {
    const auto deadline = Clock::now() + std::chrono::seconds(options_.ready_seconds);
    for (;;) {
      HttpRequest request;
      request.method = "GET";
      request.target = "/v1/models";
      const HttpResponse response = client_.send(std::move(request));
      // Any answer that is no server error: the rest is told by the request that follows.
      if (response.status != 0 && response.status < 500) return;
      SABREWING_CHECK(Clock::now() < deadline && !interrupted(), kIo, "[bench serve] {} is not ready: {}",
                      options_.base_url, response.failure());
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }

  void try_one_prompt() {
    run({prompts_.front()}, "trying", {});
    if (!interrupted())
      SABREWING_CHECK(served_.front().success, kIo, "[bench serve] the first prompt failed: {}",
                      served_.front().error);
  }

  /// Sends the prompts into `served_`; the seconds from the first start to the last token.
  double run(const std::vector<ServePrompt>& prompts, const char* label, const std::vector<double>& starts) {
    served_.assign(prompts.size(), {});
    std::vector<std::string> bodies;
    bodies.reserve(prompts.size());
    for (const ServePrompt& prompt : prompts) bodies.push_back(body(prompt));
    std::vector<std::unique_ptr<AnswerRecorder>> recorders(prompts.size());
    ProgressBar bar(label);
    std::uint64_t done = 0;
    const Clock::time_point begin = Clock::now();
    HttpClient::Load load;
    load.count = static_cast<std::int64_t>(prompts.size());
    load.concurrency = options_.max_concurrency;
    if (!starts.empty()) load.start = [&](std::int64_t i) { return starts[static_cast<std::size_t>(i)]; };
    load.request = [&](std::int64_t i) {
      const auto index = static_cast<std::size_t>(i);
      served_[index].prompt_tokens = prompts[index].tokens;
      recorders[index] =
          std::make_unique<AnswerRecorder>(served_[index], options_.chat(), options_.save_detailed);
      HttpRequest request;
      request.target = endpoint_;
      request.body = std::move(bodies[index]);
      request.on_piece = [recorder = recorders[index].get()](std::string_view piece, Clock::time_point when) {
        recorder->push(piece, when);
      };
      return request;
    };
    load.done = [&](std::int64_t i, const HttpResponse& response) {
      recorders[static_cast<std::size_t>(i)]->finish(response, begin);
      recorders[static_cast<std::size_t>(i)].reset();
      bar.update(++done, prompts.size(), "");
    };
    load.stop = [] { return interrupted(); };
    client_.send_all(load);
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  OrderedJson result(const ServeStatistics& statistics, const ServeReport& report) const {
    OrderedJson json;
    json["date"] = fmt::format("{:%Y%m%d-%H%M%S}", fmt::localtime(std::time(nullptr)));
    json["backend"] = options_.backend;
    json["model_id"] = model_;
    json["tokenizer_id"] = model_;
    json["num_prompts"] = prompts_.size();
    json["request_rate"] =
        std::isfinite(options_.request_rate) ? OrderedJson(options_.request_rate) : OrderedJson("inf");
    json["burstiness"] = options_.burstiness;
    json["max_concurrency"] =
        options_.max_concurrency > 0 ? OrderedJson(options_.max_concurrency) : OrderedJson();
    json.update(report_json(statistics, report));
    if (!options_.save_detailed) return json;
    const auto column = [&](const char* key, const auto& value) {
      OrderedJson values = OrderedJson::array();
      for (const ServedRequest& request : served_) values.push_back(value(request));
      json[key] = std::move(values);
    };
    column("input_lens", [](const ServedRequest& r) { return r.prompt_tokens; });
    column("output_lens", [](const ServedRequest& r) { return r.output_tokens; });
    column("ttfts", [](const ServedRequest& r) { return r.ttft; });
    column("itls", [](const ServedRequest& r) { return r.itl; });
    column("start_times", [](const ServedRequest& r) { return r.start; });
    column("generated_texts", [](const ServedRequest& r) { return r.text; });
    column("errors", [](const ServedRequest& r) { return r.error; });
    return json;
  }

  void save(const OrderedJson& json) const {
    std::string name = options_.result_filename;
    if (name.empty()) {
      const std::string base = std::filesystem::path(model_).filename().string();
      name = fmt::format(
          "{}-{}qps{}-{}-{}.json", options_.backend, options_.request_rate,
          options_.max_concurrency > 0 ? fmt::format("-concurrency{}", options_.max_concurrency) : "", base,
          json["date"].get<std::string>());
    }
    const std::filesystem::path file = std::filesystem::path(options_.result_dir) / name;
    std::error_code ignored;
    if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), ignored);
    std::ofstream out(file);
    out << json.dump(2) << '\n';
    out.close();
    SABREWING_CHECK(!out.fail(), kIo, "[bench serve] cannot write {}", file.string());
  }

  const BenchServeArguments& options_;
  HttpClient client_;
  Json extra_;
  std::string endpoint_;
  std::string model_;
  std::vector<ServePrompt> prompts_;
  std::vector<ServedRequest> served_;
};

}  // namespace

void add_bench_serve(CLI::App& bench, Action& action) {
  auto options = std::make_shared<BenchServeArguments>();
  CLI::App* command = bench.add_subcommand("serve", "Load a running server and time its answers");
  const auto count = [&](const char* flag, std::int64_t& value, std::int64_t least, const char* help) {
    add_flag_option(*command, flag, value, help)
        ->check(CLI::Range(least, std::int64_t{1} << 24))
        ->capture_default_str();
  };
  const CLI::Validator positive(
      [](std::string& text) {
        double value = 0;
        return CLI::detail::lexical_cast(text, value) && value > 0 ? std::string() : text + " is not above 0";
      },
      "NUMBER > 0");
  add_flag_option(*command, "--base-url", options->base_url, "The server")->capture_default_str();
  add_flag_option(*command, "--backend", options->backend, "openai (completions) or openai-chat")
      ->check(CLI::IsMember({"openai", "openai-chat"}))
      ->capture_default_str();
  add_flag_option(*command, "--endpoint", options->endpoint, "Route; default: the backend's");
  add_flag_option(*command, "--model", options->model, "Default: the first that the server names");
  add_flag_option(*command, "--api-key", options->api_key, "Bearer token");
  add_flag_option(*command, "--dataset-name", options->prompts.data_set,
                  "random (text), random-ids (token ids) or custom (--dataset-path)")
      ->check(CLI::IsMember({"random", "random-ids", "custom"}))
      ->capture_default_str();
  add_flag_option(*command, "--dataset-path", options->prompts.file,
                  "JSON lines with \"prompt\" and perhaps \"output_tokens\"");
  count("--num-prompts", options->prompts.count, 1, "Requests in all");
  count("--random-input-len", options->prompts.input_len, 1, "Tokens of a random prompt");
  count("--random-output-len", options->prompts.output_len, 1, "Tokens of its answer");
  add_flag_option(*command, "--random-range-ratio", options->prompts.range_ratio,
                  "Lengths are uniform within this share around their value")
      ->check(CLI::Range(0.0, 0.999))
      ->capture_default_str();
  count("--vocab-size", options->prompts.vocab_size, 0,
        "random-ids: ids below this; 0: ids that the server's /tokenize gives");
  count("--custom-output-len", options->prompts.custom_output_len, 1,
        "custom: tokens where a line names none");
  add_flag_option(*command, "--request-rate", options->request_rate, "Requests per second; inf: all at once")
      ->check(positive)
      ->capture_default_str();
  add_flag_option(*command, "--burstiness", options->burstiness,
                  "Shape of the gamma distribution of the gaps; 1: Poisson, less: burstier")
      ->check(positive)
      ->capture_default_str();
  count("--max-concurrency", options->max_concurrency, 0, "Requests open at once; 0: no limit");
  count("--num-warmups", options->warmups, 0, "Requests before the measurement");
  count("--ready-check-timeout-sec", options->ready_seconds, 0, "How long to wait for the server");
  add_flag_option(*command, "--temperature", options->temperature, "Sampling temperature")
      ->capture_default_str();
  add_flag_option(*command, "--extra-body", options->extra_body, "JSON object of further request fields");
  command->add_flag("--ignore-eos", options->ignore_eos, "Answers of full length");
  add_flag_option(*command, "--seed", options->prompts.seed, "Seed of prompts and gaps")
      ->capture_default_str();
  add_flag_option(*command, "--percentile-metrics", options->percentile_metrics, "Of ttft, tpot, itl, e2el")
      ->capture_default_str();
  add_flag_option(*command, "--metric-percentiles", options->metric_percentiles, "Such as 25,50,99.9")
      ->capture_default_str();
  add_flag_option(*command, "--goodput", options->goodput, "Limits in ms: ttft:MS tpot:MS e2el:MS")
      ->expected(1, 3);
  command->add_flag("--save-result", options->save_result, "Write the figures to a JSON file");
  command->add_flag("--save-detailed", options->save_detailed, "With every request's times and text");
  add_flag_option(*command, "--result-dir", options->result_dir, "Folder of the file");
  add_flag_option(*command, "--result-filename", options->result_filename,
                  "Its name; default: from the options");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->footer(
      "Examples:\n"
      "  sabrewing bench serve --num-prompts 100 --max-concurrency 16 --ignore-eos\n"
      "  sabrewing bench serve --backend openai-chat --dataset-name custom --dataset-path prompts.jsonl\n"
      "  sabrewing bench serve --request-rate 4 --save-result --result-dir results");
  command->callback([options, &action] { action = [options] { return Benchmark(*options)(); }; });
}

}  // namespace sabrewing::cli
