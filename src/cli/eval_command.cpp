#include <fmt/core.h>

#include <algorithm>

#include "cli/command.h"
#include "cli/progress.h"
#include "core/json.h"
#include "engine/eval.h"

namespace sabrewing::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string task;
  std::int64_t limit = 0;
  std::int64_t max_tokens = 256;
  bool json = false;
};

int evaluate(const Options& options) {
  std::vector<engine::EvalQuestion> questions = engine::read_questions(options.task);
  if (options.limit > 0)
    questions.resize(std::min(questions.size(), static_cast<std::size_t>(options.limit)));
  engine::LoadedModel model = load_model(options.model, options.json);
  engine::Generator generator(model, options.model.generator_options());
  catch_interrupt();
  engine::EvalResult result;
  {
    ProgressBar bar("evaluating");
    result =
        engine::evaluate(model, generator, questions, options.max_tokens, [&](const engine::EvalResult& now) {
          bar.update(static_cast<std::uint64_t>(now.questions), questions.size(),
                     fmt::format("strict {:.1f} %", 100.0 * static_cast<double>(now.strict) /
                                                        static_cast<double>(now.questions)));
          return !interrupted();
        });
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
    fmt::print(
        "{}\n",
        Json({{"results", {{task, scores}}},
              {"n-shot", {{task, 0}}},
              {"n-samples", {{task, {{"original", questions.size()}, {"effective", result.questions}}}}},
              {"config",
               {{"model", options.model.model},
                {"precision", options.model.precision},
                {"max_gen_toks", options.max_tokens}}},
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
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("eval", "Score a model on questions with numeric answers (GSM8K style)");
  options->model.add_to(*command);
  add_flag_option(*command, "--task", options->task,
                  "JSON lines with \"question\" and \"answer\" (the result after \"#### \")")
      ->required();
  add_flag_option(*command, "--limit", options->limit, "Only the first N questions; 0: all")
      ->check(CLI::NonNegativeNumber);
  add_flag_option(*command, "--max-tokens", options->max_tokens, "Tokens per answer")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON object with lm-evaluation-harness' keys");
  command->footer(
      "Example:\n  sabrewing eval models/mini-qwen3 --task questions.jsonl --limit 50\n\n"
      "Chat template, zero-shot, greedy; filters and metric as lm-evaluation-harness' gsm8k task.");
  command->callback([options, &action] { action = [options] { return evaluate(*options); }; });
}

}  // namespace sabrewing::cli
