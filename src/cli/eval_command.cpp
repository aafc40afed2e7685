#include <fmt/core.h>

#include <algorithm>
#include <chrono>

#include "cli/command.h"
#include "cli/http_client.h"
#include "cli/progress.h"
#include "core/error.h"
#include "core/json.h"
#include "engine/eval.h"

namespace sabrewing::cli {
namespace {

struct EvalArguments {
  ModelOptions model;
  std::string task;
  std::int64_t limit = 0;
  std::int64_t max_tokens = 256;
  std::string base_url;
  std::string served_model;
  std::string api_key;
  std::int64_t concurrency = 32;
  bool json = false;
};

using Done = std::function<bool(const engine::EvalResult&)>;

/// Asks a running server through chat completions. `model` becomes the name that it was asked for.
engine::EvalResult ask_server(const EvalArguments& options,
                              const std::vector<engine::EvalQuestion>& questions, std::string& model,
                              const Done& done) {
  HttpClient client({parse_base_url(options.base_url), options.api_key});
  model = options.served_model.empty() ? first_served_model(client) : options.served_model;
  engine::EvalResult result;
  const Clock::time_point begin = Clock::now();
  HttpClient::Load load;
  load.count = static_cast<std::int64_t>(questions.size());
  load.concurrency = options.concurrency;
  load.request = [&](std::int64_t i) {
    HttpRequest request;
    request.target = "/v1/chat/completions";
    request.body =
        Json({{"model", model},
              {"messages", Json::array({{{"role", "user"},
                                         {"content", questions[static_cast<std::size_t>(i)].question}}})},
              {"temperature", 0},
              {"max_tokens", options.max_tokens}})
            .dump();
    return request;
  };
  load.done = [&](std::int64_t i, const HttpResponse& response) {
    SABREWING_CHECK(response.ok(), kIo, "[eval] question {}: {}", i + 1, response.failure());
    const Json json = parse_json(response.body, "answer");
    const Json text = value_at(json, "/choices/0/message/content");
    SABREWING_CHECK(text.is_string() || text.is_null(), kCorrupt,
                    "[eval] question {}: the answer has no content", i + 1);
    const Json tokens = value_at(json, "/usage/completion_tokens");
    engine::add_answer(result, questions[static_cast<std::size_t>(i)],
                       text.is_string() ? text.get<std::string>() : std::string(),
                       tokens.is_number_integer() ? tokens.get<std::int64_t>() : 0);
    result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    done(result);
  };
  load.stop = [] { return interrupted(); };
  client.send_all(load);
  return result;
}

int evaluate(const EvalArguments& options) {
  std::vector<engine::EvalQuestion> questions = engine::read_questions(options.task);
  if (options.limit > 0)
    questions.resize(std::min(questions.size(), static_cast<std::size_t>(options.limit)));
  SABREWING_CHECK(options.model.model.empty() != options.base_url.empty(), kInvalidArgument,
                  "[eval] expected either MODEL or --base-url");
  std::string name = options.model.model;
  engine::EvalResult result;
  const auto evaluate_all = [&](const auto& run) {
    ProgressBar bar("evaluating");
    result = run([&](const engine::EvalResult& now) {
      bar.update(static_cast<std::uint64_t>(now.questions), questions.size(),
                 fmt::format("strict {:.1f} %",
                             100.0 * static_cast<double>(now.strict) / static_cast<double>(now.questions)));
      return !interrupted();
    });
  };
  if (options.base_url.empty()) {
    engine::LoadedModel model = load_model(options.model, options.json);
    engine::Generator generator(model, options.model.generator_options());
    catch_interrupt();
    evaluate_all([&](const Done& done) {
      return engine::evaluate(model, generator, questions, options.max_tokens, done);
    });
  } else {
    catch_interrupt();
    evaluate_all([&](const Done& done) { return ask_server(options, questions, name, done); });
  }
  if (interrupted())
    fmt::print(stderr, "interrupted after {} of {} questions\n", result.questions, questions.size());
  const engine::Score strict = engine::make_score(result.strict, result.questions);
  const engine::Score flexible = engine::make_score(result.flexible, result.questions);
  const std::string task = std::filesystem::path(options.task).stem().string();
  if (options.json) {
    const Json scores = {{"alias", task},
                         {"exact_match,strict-match", strict.value},
                         {"exact_match_stderr,strict-match", strict.standard_error},
                         {"exact_match,flexible-extract", flexible.value},
                         {"exact_match_stderr,flexible-extract", flexible.standard_error}};
    Json config = {{"model", name}, {"max_gen_toks", options.max_tokens}};
    if (options.base_url.empty())
      config["precision"] = options.model.precision;
    else
      config["base_url"] = options.base_url;
    fmt::print(
        "{}\n",
        Json({{"results", {{task, scores}}},
              {"n-shot", {{task, 0}}},
              {"n-samples", {{task, {{"original", questions.size()}, {"effective", result.questions}}}}},
              {"config", config},
              {"generated_tokens", result.generated_tokens},
              {"seconds", result.seconds}})
            .dump(2));
  } else {
    const auto row = [&](const char* filter, const engine::Score& score) {
      return fmt::format("|{}|      0|{:<16}|     0|exact_match|{:.4f}|±  |{:.4f}|\n", task, filter,
                         score.value, score.standard_error);
    };
    fmt::print(
        "|Tasks|Version|     Filter     |n-shot|  Metric   |Value |   |Stderr|\n"
        "|-----|------:|----------------|-----:|-----------|-----:|---|-----:|\n{}{}",
        row("flexible-extract", flexible), row("strict-match", strict));
    fmt::print("{} questions, {} tokens in {:.1f} s\n", result.questions, result.generated_tokens,
               result.seconds);
  }
  return interrupted() ? 1 : 0;
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto options = std::make_shared<EvalArguments>();
  CLI::App* command =
      app.add_subcommand("eval", "Score a model on questions with numeric answers (GSM8K style)");
  options->model.add_to(*command);
  command->get_option("MODEL")->required(false);
  add_flag_option(*command, "--task", options->task,
                  "JSON lines with \"question\" and \"answer\" (the result after \"#### \")")
      ->required();
  add_flag_option(*command, "--limit", options->limit, "Only the first N questions; 0: all")
      ->check(CLI::NonNegativeNumber);
  add_flag_option(*command, "--max-tokens", options->max_tokens, "Tokens per answer")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  add_flag_option(*command, "--base-url", options->base_url, "Ask this server instead of loading a model");
  add_flag_option(*command, "--model", options->served_model,
                  "With --base-url; default: the first that the server names");
  add_flag_option(*command, "--api-key", options->api_key, "With --base-url: bearer token");
  add_flag_option(*command, "--num-concurrent", options->concurrency, "With --base-url: requests at once")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{4096}))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON object with lm-evaluation-harness' keys");
  command->footer(
      "Examples:\n  sabrewing eval models/mini-qwen3 --task questions.jsonl --limit 50\n"
      "  sabrewing eval --base-url http://127.0.0.1:8000 --task questions.jsonl\n\n"
      "Chat template, zero-shot, greedy; filters and metric as lm-evaluation-harness' gsm8k task.");
  command->callback([options, &action] { action = [options] { return evaluate(*options); }; });
}

}  // namespace sabrewing::cli
