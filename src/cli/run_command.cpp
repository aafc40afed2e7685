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

struct RunArguments {
  ModelOptions model;
  SamplingOptions sampling;
  ChatOptions chat;
  std::string prompt;
  bool has_prompt = false;
  std::string messages;
  bool raw = false;
  bool json = false;
};

std::string read_standard_input() {
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  SABREWING_CHECK(text.size() <= kInputLimit, kInvalidArgument, "[run] standard input has more than {} bytes",
                  kInputLimit);
  return text;
}

OrderedJson read_messages(const std::string& source) {
  const bool standard_input = source == "-";
  const std::string text = standard_input ? read_standard_input() : read_text_file(source, kInputLimit);
  const std::string what = standard_input ? "standard input" : source;
  OrderedJson messages;
  try {
    messages = parse_ordered_json(text, what);
  } catch (const Error& error) {
    fail(ErrorCode::kInvalidArgument, "{}", error.what());
  }
  SABREWING_CHECK(messages.is_array(), kInvalidArgument, "[run] {}: expected a JSON list of messages", what);
  return messages;
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

struct Input {
  engine::ChatPrompt prompt;
  std::unique_ptr<text::ChatParser> parser;  ///< null: the answer is taken as it is
};

Input make_input(const RunArguments& options, const engine::LoadedModel& model) {
  OrderedJson messages;
  if (!options.messages.empty()) {
    messages = read_messages(options.messages);
  } else {
    const std::string prompt = options.has_prompt ? options.prompt : read_standard_input();
    SABREWING_CHECK(!prompt.empty(), kInvalidArgument, "[run] the prompt is empty");
    if (options.raw) return {{prompt, model.tokenizer->encode(prompt)}, nullptr};
    messages = OrderedJson::array({{{"role", "user"}, {"content", prompt}}});
  }
  const text::ChatRequest request = options.chat.request(messages);
  Input input;
  input.prompt = model.chat_prompt(request);
  input.parser = options.chat.parser(model, request, input.prompt.text);
  return input;
}

int run(const RunArguments& options) {
  if (!options.has_prompt && options.messages.empty())
    SABREWING_CHECK(::isatty(STDIN_FILENO) == 0, kInvalidArgument,
                    "[run] give --prompt TEXT, --messages FILE, or a prompt on standard input");
  // Everything that can be refused is refused before a weight is read.
  engine::LoadedModel model = engine::open_model(options.model.load_options());
  SABREWING_CHECK(model.tokenizer != nullptr, kInvalidArgument,
                  "[run] {} has no tokenizer.json; `bench latency` runs it with random ids",
                  options.model.model);
  const engine::SamplingParams params = options.sampling.resolve(model);
  Input input = make_input(options, model);
  const std::vector<std::int32_t>& prompt = input.prompt.ids;
  engine::Generator::check_prompt(model, options.model.generator_options(), prompt);
  load_weights(model, options.model, options.json);
  engine::Generator generator(model, options.model.generator_options());
  catch_interrupt();
  AnswerView view(std::move(input.parser), options.chat.show_reasoning, options.json);
  const engine::Generation result = generator.generate(
      prompt, params,
      [&](const engine::GeneratedToken& token) {
        view.push(token);
        return !interrupted();
      },
      !view.parses());
  const ChatAnswer answer = view.finish();
  const auto rate = [](std::int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  };
  const auto generated = static_cast<std::int64_t>(result.ids.size());
  if (options.json) {
    Json json = {{"text", answer.content},
                 {"reasoning", answer.reasoning},
                 {"tool_calls", answer.tool_calls},
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
    fmt::print(stderr, "prompt {} tokens, {:.1f} tokens/s; answer {} tokens, {:.1f} tokens/s; {}\n",
               result.prompt_tokens, rate(result.prompt_tokens, result.prefill_seconds), generated,
               rate(generated, result.decode_seconds), engine::to_string(result.finish));
  }
  return interrupted() ? 1 : 0;
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  auto options = std::make_shared<RunArguments>();
  CLI::App* command = app.add_subcommand("run", "Answer one prompt");
  options->model.add_to(*command);
  CLI::Option* prompt = add_flag_option(*command, "--prompt", options->prompt,
                                        "One user message; without it standard input is read");
  CLI::Option* messages = add_flag_option(*command, "--messages", options->messages,
                                          "JSON list of messages; - reads standard input")
                              ->excludes(prompt);
  command->add_flag("--raw", options->raw, "Take the prompt as it is, without the chat template")
      ->excludes(messages);
  options->chat.add_to(*command, options->model);
  options->sampling.add_to(*command);
  command->add_flag("--json", options->json,
                    "Print one JSON object with reasoning, tool calls, ids, logprobs and timings");
  command->footer(
      "Examples:\n  sabrewing run models/mini-gpt-oss --prompt \"Ann has 3 apples and buys 4. How many has "
      "she?\"\n"
      "  echo 'Once upon' | sabrewing run MODEL --raw --max-tokens 20 --temperature 0.8 --seed 1\n"
      "  sabrewing run MODEL --messages chat.json --template-kwargs '{\"enable_thinking\": false}'\n"
      "  sabrewing run MODEL --prompt 'Weather in Oslo?' --tools tools.json --json\n\n"
      "The answer goes to standard output, statistics to standard error. --show-reasoning adds the "
      "reasoning.");
  command->callback([options, prompt, &action] {
    options->has_prompt = prompt->count() > 0;
    action = [options] { return run(*options); };
  });
}

}  // namespace sabrewing::cli
