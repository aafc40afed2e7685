#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>

#include "cli/command.h"
#include "core/error.h"
#include "core/mapped_file.h"

namespace sabrewing::cli {
namespace {

constexpr std::size_t kToolFileLimit = std::size_t{16} << 20;
constexpr std::string_view kDim = "\033[2m";
constexpr std::string_view kPlain = "\033[0m";

OrderedJson parse_argument(const std::string& text, const std::string& what, OrderedJson::value_t type,
                           const char* expected) {
  OrderedJson json;
  try {
    json = parse_ordered_json(text, what);
  } catch (const Error& error) {
    fail(ErrorCode::kInvalidArgument, "{}", error.what());
  }
  SABREWING_CHECK(json.type() == type, kInvalidArgument, "[chat] {}: expected {}", what, expected);
  return json;
}

void write(std::FILE* file, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), file);
  std::fflush(file);
}

}  // namespace

void ChatOptions::add_to(CLI::App& app, ModelOptions& model) {
  add_flag_option(app, "--system", system, "System message");
  add_flag_option(app, "--tools", tools, "JSON file with the list of tools that the model may call");
  add_flag_option(app, "--reasoning-effort", reasoning_effort, "Template variable: low, medium or high");
  add_flag_option(app, "--template-kwargs", template_kwargs, "JSON object of further template variables");
  add_flag_option(
      app, "--chat-template", model.chat_template,
      "Jinja file, or a built-in renderer (harmony, deepseek_v4), instead of the model's template");
  add_flag_option(app, "--tool-call-parser", tool_call_parser,
                  "Format of tool calls; auto: the model's, none")
      ->capture_default_str();
  add_flag_option(app, "--reasoning-parser", reasoning_parser, "Format of reasoning; auto: the model's, none")
      ->capture_default_str();
  app.add_flag("--show-reasoning", show_reasoning, "Write the reasoning to standard error")
      ->envname(environment_name("--show-reasoning"));
}

text::ChatRequest ChatOptions::request(const OrderedJson& messages) const {
  text::ChatRequest request;
  request.add_generation_prompt = true;
  if (!system.empty()) request.messages.push_back({{"role", "system"}, {"content", system}});
  request.messages.insert(request.messages.end(), messages.begin(), messages.end());
  if (!tools.empty())
    request.tools = parse_argument(read_text_file(tools, kToolFileLimit), tools, OrderedJson::value_t::array,
                                   "a JSON list of tools");
  if (!template_kwargs.empty())
    request.kwargs =
        parse_argument(template_kwargs, "--template-kwargs", OrderedJson::value_t::object, "a JSON object");
  if (!reasoning_effort.empty()) request.kwargs["reasoning_effort"] = reasoning_effort;
  return request;
}

std::unique_ptr<text::ChatParser> ChatOptions::parser(const engine::LoadedModel& model,
                                                      const text::ChatRequest& request,
                                                      std::string_view prompt) const {
  const text::ChatParserDefaults defaults = model.chat_parsers();
  const auto chosen = [](const std::string& asked, const std::string& own) {
    return asked == "auto" ? own : asked == "none" ? std::string() : asked;
  };
  text::ChatParserOptions options;
  options.tool_parser = chosen(tool_call_parser, defaults.tool_parser);
  options.reasoning_parser = chosen(reasoning_parser, defaults.reasoning_parser);
  if (options.tool_parser.empty() && options.reasoning_parser.empty()) return nullptr;
  options.tools = request.tools;
  options.prompt = prompt;
  options.tokenizer = model.tokenizer.get();
  return text::make_chat_parser(options);
}

OrderedJson ChatAnswer::message() const {
  OrderedJson message = {{"role", "assistant"}, {"content", content}};
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  if (!tool_calls.empty()) message["tool_calls"] = tool_calls;
  return message;
}

AnswerView::AnswerView(std::unique_ptr<text::ChatParser> parser, bool show_reasoning, bool quiet)
    : parser_(std::move(parser)), show_reasoning_(show_reasoning), quiet_(quiet) {}

void AnswerView::push(const engine::GeneratedToken& token) {
  if (parser_ == nullptr) {
    answer_.content += token.text;
    show(token.text);
    return;
  }
  std::vector<text::ChatDelta> deltas;
  parser_->push(token.id, token.text, deltas);
  for (const text::ChatDelta& delta : deltas) take(delta);
}

void AnswerView::take(const text::ChatDelta& delta) {
  switch (delta.kind) {
    case text::ChatDelta::Kind::kReasoning:
      answer_.reasoning += delta.text;
      show_reasoning(delta.text);
      return;
    case text::ChatDelta::Kind::kContent:
      answer_.content += delta.text;
      show(delta.text);
      return;
    case text::ChatDelta::Kind::kToolCall: {
      const std::string id = delta.id.empty() ? fmt::format("call_{}", delta.call) : delta.id;
      answer_.tool_calls.push_back(
          {{"id", id}, {"type", "function"}, {"function", {{"name", delta.text}, {"arguments", ""}}}});
      show(fmt::format("{}{} ", line_open_ ? "\n" : "", delta.text));
      return;
    }
    case text::ChatDelta::Kind::kToolArguments:
      answer_.tool_calls.back()["function"]["arguments"].get_ref<std::string&>() += delta.text;
      show(delta.text);
      return;
  }
}

void AnswerView::show(std::string_view text) {
  if (text.empty() || quiet_) return;
  end_reasoning();
  write(stdout, text);
  line_open_ = text.back() != '\n';
}

void AnswerView::show_reasoning(std::string_view text) {
  if (quiet_ || !show_reasoning_) return;
  if (!in_reasoning_ && ::isatty(STDERR_FILENO) == 1) write(stderr, kDim);
  in_reasoning_ = true;
  write(stderr, text);
}

void AnswerView::end_reasoning() {
  if (!in_reasoning_) return;
  in_reasoning_ = false;
  if (::isatty(STDERR_FILENO) == 1) write(stderr, kPlain);
  write(stderr, "\n\n");
}

ChatAnswer AnswerView::finish() {
  if (parser_ != nullptr) {
    std::vector<text::ChatDelta> deltas;
    parser_->finish(deltas);
    for (const text::ChatDelta& delta : deltas) take(delta);
  }
  end_reasoning();
  if (!quiet_) {
    write(stdout, "\n");
    if (answer_.content.empty() && answer_.tool_calls.empty() && !answer_.reasoning.empty() &&
        !show_reasoning_)
      fmt::print(stderr, "the answer holds only reasoning; --show-reasoning shows it\n");
  }
  return std::move(answer_);
}

}  // namespace sabrewing::cli
