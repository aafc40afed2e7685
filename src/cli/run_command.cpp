#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <iterator>

#include "cli/command.h"
#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"

namespace sabrewing::cli {
namespace {

constexpr std::size_t kInputLimit = std::size_t{64} << 20;

struct Options {
  ModelOptions model;
  SamplingOptions sampling;
  std::string prompt;
  bool has_prompt = false;
  std::string messages;
  std::string template_kwargs;
  bool raw = false;
  bool json = false;
};

std::string read_standard_input() {
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  SABREWING_CHECK(text.size() <= kInputLimit, kInvalidArgument, "[run] standard input has more than {} bytes",
                  kInputLimit);
  return text;
}

OrderedJson parse_argument(const std::string& text, const std::string& what, OrderedJson::value_t type,
                           const char* expected) {
  OrderedJson json;
  try {
    json = parse_ordered_json(text, what);
  } catch (const Error& error) {
    fail(ErrorCode::kInvalidArgument, "{}", error.what());
  }
  SABREWING_CHECK(json.type() == type, kInvalidArgument, "[run] {}: expected {}", what, expected);
  return json;
}

Json logprobs_json(const std::vector<engine::TokenLogprobs>& logprobs) {
  Json rows = Json::array();
  for (const engine::TokenLogprobs& row : logprobs) {
    Json top = Json::array();
    for (const engine::TokenLogprob& entry : row.top)
      top.push_back({{"id", entry.id}, {"logprob", entry.logprob}});
    rows.push_back({{"id", row.chosen.id}, {"logprob", row.chosen.logprob}, {"top", top}});
  }
  return rows;
}

/// The text that goes to the tokenizer.
std::string make_prompt(const Options& options, const engine::LoadedModel& model) {
  const OrderedJson kwargs = options.template_kwargs.empty()
                                 ? OrderedJson::object()
                                 : parse_argument(options.template_kwargs, "--template-kwargs",
                                                  OrderedJson::value_t::object, "a JSON object");
  if (!options.messages.empty()) {
    const bool standard_input = options.messages == "-";
    const std::string text =
        standard_input ? read_standard_input() : read_text_file(options.messages, kInputLimit);
    const std::string what = standard_input ? "standard input" : options.messages;
    return model.render_chat(
        parse_argument(text, what, OrderedJson::value_t::array, "a JSON list of messages"), kwargs);
  }
  const std::string prompt = options.has_prompt ? options.prompt : read_standard_input();
  SABREWING_CHECK(!prompt.empty(), kInvalidArgument, "[run] the prompt is empty");
  if (options.raw) return prompt;
  return model.render_chat(OrderedJson::array({{{"role", "user"}, {"content", prompt}}}), kwargs);
}

int run(const Options& options) {
  if (!options.has_prompt && options.messages.empty())
    SABREWING_CHECK(::isatty(STDIN_FILENO) == 0, kInvalidArgument,
                    "[run] give --prompt TEXT, --messages FILE, or a prompt on standard input");
  // Everything that can be refused is refused before a weight is read.
  engine::LoadedModel model = engine::open_model(options.model.load_options());
  SABREWING_CHECK(model.tokenizer != nullptr, kInvalidArgument,
                  "[run] {} has no tokenizer.json; `bench latency` runs it with random ids",
                  options.model.model);
  const engine::SamplingParams params = options.sampling.resolve(model);
  const std::vector<std::int32_t> prompt = model.tokenizer->encode(make_prompt(options, model));
  engine::Generator::check_prompt(model, options.model.generator_options(), prompt);
  load_weights(model, options.model, options.json);
  engine::Generator generator(model, options.model.generator_options());
  catch_interrupt();
  const engine::Generation result =
      generator.generate(prompt, params, [&](const engine::GeneratedToken& token) {
        if (!options.json) {
          std::fwrite(token.text.data(), 1, token.text.size(), stdout);
          std::fflush(stdout);
        }
        return !interrupted();
      });
  const auto rate = [](std::int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  };
  const auto generated = static_cast<std::int64_t>(result.ids.size());
  if (options.json) {
    Json json = {{"text", result.text},
                 {"ids", result.ids},
                 {"prompt_ids", prompt},
                 {"finish_reason", engine::to_string(result.finish)},
                 {"prompt_tokens", result.prompt_tokens},
                 {"completion_tokens", generated},
                 {"timings",
                  {{"prefill_seconds", result.prefill_seconds},
                   {"decode_seconds", result.decode_seconds},
                   {"load_seconds", model.times.open + model.times.plan + model.times.weights}}}};
    if (params.logprobs.has_value()) json["logprobs"] = logprobs_json(result.logprobs);
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("\n");
    std::fflush(stdout);
    fmt::print(stderr, "prompt {} tokens, {:.1f} tokens/s; answer {} tokens, {:.1f} tokens/s; {}\n",
               result.prompt_tokens, rate(result.prompt_tokens, result.prefill_seconds), generated,
               rate(generated, result.decode_seconds), engine::to_string(result.finish));
  }
  return interrupted() ? 1 : 0;
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("run", "Answer one prompt");
  options->model.add_to(*command);
  CLI::Option* prompt = add_flag_option(*command, "--prompt", options->prompt,
                                        "One user message; without it standard input is read");
  CLI::Option* messages = add_flag_option(*command, "--messages", options->messages,
                                          "JSON list of messages; - reads standard input")
                              ->excludes(prompt);
  command->add_flag("--raw", options->raw, "Take the prompt as it is, without the chat template")
      ->excludes(messages);
  add_flag_option(*command, "--template-kwargs", options->template_kwargs,
                  "JSON object of further template variables");
  options->sampling.add_to(*command);
  command->add_flag("--json", options->json, "Print one JSON object with ids, logprobs and timings");
  command->footer(
      "Examples:\n  sabrewing run models/mini-gpt-oss --prompt \"Ann has 3 apples and buys 4. How many has "
      "she?\"\n"
      "  echo 'Once upon' | sabrewing run MODEL --raw --max-tokens 20 --temperature 0.8 --seed 1\n"
      "  sabrewing run MODEL --messages chat.json --template-kwargs '{\"enable_thinking\": false}'\n\n"
      "The answer goes to standard output, statistics to standard error.");
  command->callback([options, prompt, &action] {
    options->has_prompt = prompt->count() > 0;
    action = [options] { return run(*options); };
  });
}

}  // namespace sabrewing::cli
