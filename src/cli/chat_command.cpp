#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "cli/command.h"
#include "core/error.h"
#include "core/json.h"

namespace sabrewing::cli {
namespace {

struct ChatArguments {
  ModelOptions model;
  SamplingOptions sampling;
  ChatOptions chat;
};

constexpr char kHelp[] = "/reset forgets the conversation, /exit or Ctrl-D ends; Ctrl-C stops an answer\n";

int chat(const ChatArguments& options) {
  engine::LoadedModel model = load_model(options.model, false);
  SABREWING_CHECK(model.tokenizer != nullptr && model.chat_templates.has_value(), kNotFound,
                  "[chat] {} has no tokenizer or no chat template", options.model.model);
  const engine::SamplingParams params = options.sampling.resolve(model);
  engine::Generator generator(model, options.model.generator_options());
  OrderedJson history = OrderedJson::array();
  catch_interrupt();
  const bool terminal = ::isatty(STDIN_FILENO) == 1;
  if (terminal) fmt::print(stderr, "{}", kHelp);
  for (std::string line;;) {
    if (terminal) {
      fmt::print(stderr, "> ");
      std::fflush(stderr);
    }
    if (!std::getline(std::cin, line)) break;
    clear_interrupt();
    if (line.empty()) continue;
    if (line == "/exit") break;
    if (line == "/help") {
      fmt::print(stderr, "{}", kHelp);
      continue;
    }
    if (line == "/reset") {
      history = OrderedJson::array();
      continue;
    }
    history.push_back({{"role", "user"}, {"content", line}});
    try {
      const text::ChatRequest request = options.chat.request(history);
      const engine::ChatPrompt prompt = model.chat_prompt(request);
      AnswerView view(options.chat.parser(model, request, prompt.text), options.chat.show_reasoning, false);
      generator.generate(
          prompt.ids, params,
          [&](const engine::GeneratedToken& token) {
            view.push(token);
            return !interrupted();
          },
          !view.parses());
      // The template decides which reasoning of earlier turns the model sees again.
      history.push_back(view.finish().message());
    } catch (const Error& error) {
      // The conversation goes on without the message that could not be answered.
      if (error.code() != ErrorCode::kInvalidArgument) throw;
      fmt::print(stderr, "sabrewing: {}\n", error.what());
      history.erase(history.size() - 1);
    }
    clear_interrupt();
  }
  return 0;
}

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  auto options = std::make_shared<ChatArguments>();
  CLI::App* command = app.add_subcommand("chat", "Talk with a model");
  options->model.add_to(*command);
  options->chat.add_to(*command, options->model);
  options->sampling.add_to(*command);
  command->footer(
      "Example:\n  sabrewing chat models/mini-qwen3\n\nOne message per line. Ctrl-C stops the answer, twice "
      "the program.");
  command->callback([options, &action] { action = [options] { return chat(*options); }; });
}

}  // namespace sabrewing::cli
