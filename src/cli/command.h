#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/json.h"
#include "engine/generator.h"
#include "engine/loader.h"
#include "text/chat/parser.h"

namespace sabrewing::cli {

/// What the chosen subcommand does; the exit code. Set by the subcommand's parser.
using Action = std::function<int()>;

// Each adds one subcommand to `app`; when it was chosen, `action` holds what to do.
void add_run(CLI::App& app, Action& action);
void add_chat(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);
void add_cache(CLI::App& app, Action& action);
void add_tune(CLI::App& app, Action& action);
void add_serve(CLI::App& app, Action& action);

/// Bytes of a file of kernel sizes, at most.
inline constexpr std::size_t kShapesLimit = std::size_t{1} << 20;

/// The environment variable of a flag: "--max-tokens" is SABREWING_MAX_TOKENS.
std::string environment_name(const std::string& flag);

/// `app.add_option(flag, ...)` with its environment variable and default shown in the help.
template <typename T>
CLI::Option* add_flag_option(CLI::App& app, const std::string& flag, T& value, const std::string& help) {
  return app.add_option(flag, value, help)->envname(environment_name(flag));
}

/// Options of every command that loads a model.
struct ModelOptions {
  std::string model;
  std::string device = "auto";
  std::string precision = "default";
  std::string load_format = "auto";
  std::string cpu_tier;
  int threads = 0;
  std::uint64_t dummy_seed = 0;
  std::int64_t max_context = 0;
  std::int64_t block_size = 16;
  std::int64_t prefill_chunk = 512;
  std::string chat_template;  ///< set by `ChatOptions`

  void add_to(CLI::App& app);
  engine::LoadOptions load_options() const;
  engine::GeneratorOptions generator_options() const;
};

/// Packs the weights of an opened model, with a progress bar on a terminal; what was loaded goes to standard
/// error unless `quiet`.
void load_weights(engine::LoadedModel& model, const ModelOptions& options, bool quiet);

/// `engine::open_model` and `load_weights`.
engine::LoadedModel load_model(const ModelOptions& options, bool quiet);

/// Sampling flags; fields not given keep the model's generation_config.json, then the library's defaults.
struct SamplingOptions {
  void add_to(CLI::App& app);
  engine::SamplingParams resolve(const engine::LoadedModel& model) const;

  CLI::App* app = nullptr;
  engine::SamplingParams given;
  std::int64_t max_tokens = 1024;
  std::uint64_t seed = 0;
  std::int64_t logprobs = 0;
};

/// Options of commands that render conversations and show answers.
struct ChatOptions {
  void add_to(CLI::App& app, ModelOptions& model);

  /// The conversation with the system message, the tools and the template's variables.
  text::ChatRequest request(const OrderedJson& messages) const;
  /// Takes answers to `prompt` apart; null where nothing fits the model and nothing was asked for.
  std::unique_ptr<text::ChatParser> parser(const engine::LoadedModel& model, const text::ChatRequest& request,
                                           std::string_view prompt) const;

  std::string system;
  std::string tools;
  std::string template_kwargs;
  std::string reasoning_effort;
  std::string tool_call_parser = "auto";
  std::string reasoning_parser = "auto";
  bool show_reasoning = false;
};

/// A whole answer taken apart.
struct ChatAnswer {
  std::string reasoning;
  std::string content;
  OrderedJson tool_calls = OrderedJson::array();  ///< OpenAI's objects

  /// The message that continues the conversation.
  OrderedJson message() const;
};

/// Shows an answer while it comes: content and calls on standard output, reasoning on standard error (dimmed
/// on a terminal) or not at all.
class AnswerView {
 public:
  /// `parser` may be null: all text is content then. `quiet`: nothing is shown.
  AnswerView(std::unique_ptr<text::ChatParser> parser, bool show_reasoning, bool quiet);
  void push(const engine::GeneratedToken& token);
  /// The answer has ended.
  ChatAnswer finish();
  bool parses() const { return parser_ != nullptr; }

 private:
  void take(const text::ChatDelta& delta);
  void show(std::string_view text);
  void show_reasoning(std::string_view text);
  void end_reasoning();

  std::unique_ptr<text::ChatParser> parser_;
  bool show_reasoning_;
  bool quiet_;
  bool in_reasoning_ = false;
  bool line_open_ = false;  ///< standard output is inside a line
  ChatAnswer answer_;
};

/// Set by Ctrl-C once `catch_interrupt` was called; a second Ctrl-C ends the process.
bool interrupted();
void catch_interrupt();
void clear_interrupt();

}  // namespace sabrewing::cli
