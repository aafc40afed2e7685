#include "text/chat/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "core/error.h"
#include "text/chat/stage.h"
#include "text/tokenizer.h"

namespace sabrewing::text {
namespace {

using chat::Stage;
using chat::Thinking;

/// The stages share one tape; a stage that is over leaves the rest to the next.
class StagedParser final : public ChatParser {
 public:
  StagedParser(std::vector<std::unique_ptr<Stage>> stages, bool trim, const Tokenizer* tokenizer)
      : stages_(std::move(stages)), answer_(trim), tokenizer_(tokenizer) {}

  void push(std::int32_t id, std::string_view text, std::vector<ChatDelta>& out) override {
    for (const auto& stage : stages_) stage->note_token(id);
    tape_.append(without_special(id, text));
    run(out);
  }

  void finish(std::vector<ChatDelta>& out) override {
    tape_.end();
    run(out);
    answer_.finish();
  }

  bool call_closed(std::int32_t call) const override { return answer_.call_closed(call); }

 private:
  void run(std::vector<ChatDelta>& out) {
    answer_.begin_push(out);
    while (current_ < stages_.size()) {
      if (stages_[current_]->over()) {
        ++current_;
      } else if (!stages_[current_]->step(tape_, answer_)) {
        break;
      }
    }
  }

  /// `text` without a special token that means nothing to the format.
  std::string_view without_special(std::int32_t id, std::string_view text) const {
    if (tokenizer_ == nullptr || !tokenizer_->is_special(id)) return text;
    const std::string_view token = tokenizer_->token_bytes(id);
    const bool markup = std::any_of(stages_.begin(), stages_.end(),
                                    [&](const auto& stage) { return stage->is_markup(token); });
    if (!markup && text.ends_with(token)) text.remove_suffix(token.size());
    return text;
  }

  std::vector<std::unique_ptr<Stage>> stages_;
  std::size_t current_ = 0;
  chat::Tape tape_;
  chat::Answer answer_;
  const Tokenizer* tokenizer_;
};

chat::JsonCallFormat hermes_format() {
  chat::JsonCallFormat format;
  format.open = {"<tool_call>"};
  format.close = {"</tool_call>"};
  return format;
}

chat::JsonCallFormat llama3_format() {
  chat::JsonCallFormat format;
  format.open = {"<|python_tag|>"};
  format.separators = ";,";
  format.bare = true;
  return format;
}

chat::JsonCallFormat mistral_format() {
  chat::JsonCallFormat format;
  format.open = {"[TOOL_CALLS]"};
  format.separators = ",";
  format.list = true;
  format.named = {"[CALL_ID]", "[ARGS]"};
  return format;
}

chat::MarkedCallFormat deepseek_v3_format() {
  chat::MarkedCallFormat format;
  format.section_open = {"<｜tool▁calls▁begin｜>"};
  format.section_close = "<｜tool▁calls▁end｜>";
  format.call_open = "<｜tool▁call▁begin｜>";
  format.name_close = "<｜tool▁sep｜>";
  format.call_close = "<｜tool▁call▁end｜>";
  format.fenced = true;
  return format;
}

chat::MarkedCallFormat kimi_format() {
  chat::MarkedCallFormat format;
  format.section_open = {"<|tool_calls_section_begin|>"};
  format.section_close = "<|tool_calls_section_end|>";
  format.call_open = "<|tool_call_begin|>";
  format.name_close = "<|tool_call_argument_begin|>";
  format.call_close = "<|tool_call_end|>";
  format.kimi_ids = true;
  return format;
}

chat::TaggedCallFormat qwen3_coder_format() {
  chat::TaggedCallFormat format;
  format.section_open = {"<tool_call>"};
  format.section_close = {"</tool_call>"};
  format.call_open = "<function=";
  format.call_close = "</function>";
  format.key_open = "<parameter=";
  format.value_close = "</parameter>";
  format.bare_calls = true;
  format.lenient_values = true;
  format.trim_newline = true;
  return format;
}

chat::TaggedCallFormat glm_format() {
  chat::TaggedCallFormat format;
  format.section_open = {"<tool_call>"};
  format.section_close = {"</tool_call>"};
  format.key_open = "<arg_key>";
  format.key_close = "</arg_key>";
  format.value_open = "<arg_value>";
  format.value_close = "</arg_value>";
  format.unknown_is_json = true;
  return format;
}

chat::TaggedCallFormat minimax_format() {
  chat::TaggedCallFormat format;
  format.section_open = {"<minimax:tool_call>"};
  format.section_close = {"</minimax:tool_call>"};
  format.call_open = "<invoke name=";
  format.call_close = "</invoke>";
  format.key_open = "<parameter name=";
  format.value_close = "</parameter>";
  return format;
}

chat::TaggedCallFormat dsml_format() {
  chat::TaggedCallFormat format;
  format.section_open = {"<｜DSML｜tool_calls>", "<｜DSML｜function_calls>"};
  format.section_close = {"</｜DSML｜tool_calls>", "</｜DSML｜function_calls>"};
  format.call_open = "<｜DSML｜invoke name=";
  format.call_close = "</｜DSML｜invoke>";
  format.key_open = "<｜DSML｜parameter name=";
  format.value_close = "</｜DSML｜parameter>";
  format.bare_calls = true;
  format.string_attribute = true;
  format.unknown_is_json = true;
  return format;
}

enum class ToolFormat {
  kHarmony,
  kHermes,
  kLlama3,
  kMistral,
  kDeepseekV3,
  kKimi,
  kQwen3Coder,
  kGlm,
  kMinimax,
  kDsml
};

constexpr std::pair<std::string_view, ToolFormat> kToolParsers[] = {
    {"deepseek-v4", ToolFormat::kDsml},
    {"deepseek_v3", ToolFormat::kDeepseekV3},
    {"deepseek_v31", ToolFormat::kDeepseekV3},
    {"deepseek_v32", ToolFormat::kDsml},
    {"deepseek_v4", ToolFormat::kDsml},
    {"deepseekv4", ToolFormat::kDsml},
    {"glm45", ToolFormat::kGlm},
    {"glm47", ToolFormat::kGlm},
    {"gptoss", ToolFormat::kHarmony},
    {"hermes", ToolFormat::kHermes},
    {"kimi_k2", ToolFormat::kKimi},
    {"llama3_json", ToolFormat::kLlama3},
    {"llama4_json", ToolFormat::kLlama3},
    {"minimax", ToolFormat::kMinimax},
    {"minimax_m2", ToolFormat::kMinimax},
    {"mistral", ToolFormat::kMistral},
    {"openai", ToolFormat::kHarmony},
    {"qwen3_coder", ToolFormat::kQwen3Coder},
    {"qwen3_json", ToolFormat::kHermes},
    {"qwen3_xml", ToolFormat::kQwen3Coder},
};

enum class ReasoningFormat {
  kHarmony,
  kThink,
  kThinkOpen,  ///< open when the prompt says nothing
  kKimi,
};

constexpr std::pair<std::string_view, ReasoningFormat> kReasoningParsers[] = {
    {"deepseek-v4", ReasoningFormat::kThink},
    {"deepseek_r1", ReasoningFormat::kThinkOpen},
    {"deepseek_v3", ReasoningFormat::kThink},
    {"deepseek_v4", ReasoningFormat::kThink},
    {"deepseekv4", ReasoningFormat::kThink},
    {"glm45", ReasoningFormat::kThink},
    {"glm47", ReasoningFormat::kThink},
    {"gptoss", ReasoningFormat::kHarmony},
    {"kimi", ReasoningFormat::kKimi},
    {"kimi_k2", ReasoningFormat::kKimi},
    {"minimax", ReasoningFormat::kThinkOpen},
    {"minimax_m2", ReasoningFormat::kThinkOpen},
    {"openai_gptoss", ReasoningFormat::kHarmony},
    {"qwen3", ReasoningFormat::kThink},
};

template <typename Table>
std::vector<std::string> names(const Table& table) {
  std::vector<std::string> out;
  std::transform(std::begin(table), std::end(table), std::back_inserter(out),
                 [](const auto& entry) { return std::string(entry.first); });
  return out;
}

template <typename Table>
auto find_parser(const Table& table, std::string_view kind, std::string_view name) {
  const auto found = std::find_if(std::begin(table), std::end(table),
                                  [&](const auto& entry) { return entry.first == name; });
  SABREWING_CHECK(found != std::end(table), kInvalidArgument,
                  "[chat] unknown {} parser \"{}\", expected one of: {}", kind, name,
                  fmt::join(names(table), ", "));
  return found->second;
}

std::unique_ptr<Stage> make_tool_stage(ToolFormat format, const OrderedJson& tools) {
  switch (format) {
    case ToolFormat::kHermes:
      return chat::make_json_call_stage(hermes_format());
    case ToolFormat::kLlama3:
      return chat::make_json_call_stage(llama3_format());
    case ToolFormat::kMistral:
      return chat::make_json_call_stage(mistral_format());
    case ToolFormat::kDeepseekV3:
      return chat::make_marked_call_stage(deepseek_v3_format());
    case ToolFormat::kKimi:
      return chat::make_marked_call_stage(kimi_format());
    case ToolFormat::kQwen3Coder:
      return chat::make_tagged_call_stage(qwen3_coder_format(), tools);
    case ToolFormat::kGlm:
      return chat::make_tagged_call_stage(glm_format(), tools);
    case ToolFormat::kMinimax:
      return chat::make_tagged_call_stage(minimax_format(), tools);
    case ToolFormat::kDsml:
      return chat::make_tagged_call_stage(dsml_format(), tools);
    case ToolFormat::kHarmony:
      break;
  }
  fail(ErrorCode::kInternal, "[chat] tool format {} has no stage", static_cast<int>(format));
}

std::unique_ptr<Stage> make_reasoning_stage(ReasoningFormat format, std::string_view prompt,
                                            std::vector<std::string> implicit_ends) {
  std::vector<chat::ThinkMarkers> markers = {{"<think>", "</think>"}};
  if (format == ReasoningFormat::kKimi) markers.push_back({"◁think▷", "◁/think▷"});
  Thinking start = format == ReasoningFormat::kThinkOpen ? Thinking::kOpen : Thinking::kUnknown;
  const std::string_view end = chat::trimmed(prompt);
  for (const chat::ThinkMarkers& pair : markers) {
    if (end.ends_with(pair.open)) start = Thinking::kOpen;
    if (end.ends_with(pair.close)) start = Thinking::kClosed;
  }
  return chat::make_think_stage(std::move(markers), start, std::move(implicit_ends));
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

std::vector<std::string> tool_parser_names() { return names(kToolParsers); }

std::vector<std::string> reasoning_parser_names() { return names(kReasoningParsers); }

std::unique_ptr<ChatParser> make_chat_parser(const ChatParserOptions& options) {
  std::optional<ToolFormat> tool;
  if (!options.tool_parser.empty()) tool = find_parser(kToolParsers, "tool", options.tool_parser);
  std::optional<ReasoningFormat> reasoning;
  if (!options.reasoning_parser.empty())
    reasoning = find_parser(kReasoningParsers, "reasoning", options.reasoning_parser);

  std::vector<std::unique_ptr<Stage>> stages;
  if (tool == ToolFormat::kHarmony || reasoning == ReasoningFormat::kHarmony) {
    const bool other =
        (tool && *tool != ToolFormat::kHarmony) || (reasoning && *reasoning != ReasoningFormat::kHarmony);
    SABREWING_CHECK(!other, kInvalidArgument,
                    "[chat] the harmony format is parsed as a whole: tool parser \"{}\" and reasoning parser "
                    "\"{}\" do not go together",
                    options.tool_parser, options.reasoning_parser);
    stages.push_back(
        chat::make_harmony_stage(options.tokenizer, tool.has_value() && options.parse_tools, options.prompt));
    return std::make_unique<StagedParser>(std::move(stages), false, options.tokenizer);
  }
  std::unique_ptr<Stage> content = tool && options.parse_tools ? make_tool_stage(*tool, options.tools)
                                                               : std::make_unique<chat::ContentStage>();
  if (reasoning) stages.push_back(make_reasoning_stage(*reasoning, options.prompt, content->openers()));
  stages.push_back(std::move(content));
  const bool trim = reasoning.has_value() || tool.has_value();
  return std::make_unique<StagedParser>(std::move(stages), trim, options.tokenizer);
}

ChatParserDefaults default_parsers(std::string_view model_type, std::string_view source) {
  if (model_type == "gpt_oss" || contains(source, "<|channel|>")) return {"openai", "openai_gptoss"};
  if (model_type == "deepseek_v4") return {"deepseek_v4", "deepseek_v4"};
  if (model_type == "deepseek_v32" || contains(source, "｜DSML｜")) return {"deepseek_v32", "deepseek_v3"};
  ChatParserDefaults defaults;
  if (contains(source, "<arg_key>")) {
    defaults = {"glm47", "glm45"};
  } else if (contains(source, "<minimax:tool_call>")) {
    defaults = {"minimax_m2", "minimax_m2"};
  } else if (contains(source, "<|tool_calls_section_begin|>")) {
    defaults = {"kimi_k2", "kimi_k2"};
  } else if (contains(source, "<｜tool▁calls▁begin｜>")) {
    defaults = {"deepseek_v3", "deepseek_v3"};
  } else if (contains(source, "<function=")) {
    defaults = {"qwen3_coder", "qwen3"};
  } else if (contains(source, "<tool_call>") ||
             (model_type.starts_with("qwen3") && contains(source, "<|im_start|>"))) {
    defaults = {"hermes", "qwen3"};
  } else if (contains(source, "[TOOL_CALLS]")) {
    defaults = {"mistral", ""};
  } else if (contains(source, "<|python_tag|>") || contains(source, "<|start_header_id|>")) {
    defaults = {"llama3_json", ""};
  } else if (contains(source, "<think>")) {
    defaults = {"", "qwen3"};
  }
  if (!contains(source, "think>")) defaults.reasoning_parser.clear();
  return defaults;
}

}  // namespace sabrewing::text
