#include "text/chat/deepseek_v4.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "text/chat/message.h"
#include "text/jinja_builtins.h"

namespace sabrewing::text {
namespace {

using chat::member;
using chat::string_member;

constexpr std::string_view kBegin = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEnd = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUserToken = "<｜User｜>";
constexpr std::string_view kAssistantToken = "<｜Assistant｜>";
constexpr std::string_view kThinkBegin = "<think>";
constexpr std::string_view kThinkEnd = "</think>";
constexpr std::string_view kDsmlMark = "｜DSML｜";

// The texts that the model was trained with.
constexpr std::string_view kHighEffort =
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the "
    "root cause, rigorously stress-testing your logic against all potential paths, edge cases, and "
    "adversarial scenarios.\n"
    "Explicitly write out your entire deliberation process, documenting every intermediate step, considered "
    "alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.\n\n";
constexpr std::string_view kMaxEffort =
    "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n"
    "You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively "
    "decompose the problem into its most fundamental components, trace every causal chain to its root, and "
    "resolve the underlying cause rather than any surface symptom.\n"
    "Do not stop reasoning until you have independently verified the solution from multiple angles and are "
    "certain that no assumption remains unchecked and no error remains undiscovered.\n\n";
/// {0} is the token of DSML.
constexpr std::string_view kToolsHead =
    "## Tools\n\n"
    "You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "
    "\"<{0}tool_calls>\" block like the following:\n\n"
    "<{0}tool_calls>\n"
    "<{0}invoke name=\"$TOOL_NAME\">\n"
    "<{0}parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</{0}parameter>\n"
    "...\n"
    "</{0}invoke>\n"
    "<{0}invoke name=\"$TOOL_NAME2\">\n"
    "...\n"
    "</{0}invoke>\n"
    "</{0}tool_calls>\n\n"
    "String parameters should be specified as is and set `string=\"true\"`. For all other types (numbers, "
    "booleans, arrays, objects), pass the value in JSON format and set `string=\"false\"`.\n\n"
    "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside "
    "<think>...</think> BEFORE any tool calls or final response.\n\n"
    "Otherwise, output directly after </think> with tool calls or final response.\n\n"
    "### Available Tool Schemas\n\n";
constexpr std::string_view kToolsTail =
    "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n";

/// As Python's json.dumps writes it, which the model has seen.
std::string python_json(const OrderedJson& json) {
  jinja::Runtime runtime({}, {});
  return jinja::to_json(runtime, jinja::from_json(runtime, json), false, {}, {}, false);
}

bool flag(const ChatRequest& request, const char* name, bool otherwise) {
  const OrderedJson* value = member(request.kwargs, name);
  if (value == nullptr || value->is_null()) return otherwise;
  SABREWING_CHECK(value->is_boolean(), kInvalidArgument, "[deepseek_v4] {} is neither true nor false", name);
  return value->get<bool>();
}

struct Options {
  bool thinking = true;
  bool drop_thinking = true;
  std::string_view effort;  ///< the text that asks for it
};

Options read_options(const ChatRequest& request) {
  Options options;
  const bool asked = request.kwargs.contains("thinking") || request.kwargs.contains("enable_thinking");
  if (asked) options.thinking = flag(request, "thinking", false) || flag(request, "enable_thinking", false);
  options.drop_thinking = flag(request, "drop_thinking", true) && request.tools.empty();
  std::string effort = "high";
  if (const OrderedJson* value = member(request.kwargs, "reasoning_effort");
      value != nullptr && !value->is_null()) {
    SABREWING_CHECK(value->is_string(), kInvalidArgument, "[deepseek_v4] reasoning_effort is not a string");
    effort = value->get<std::string>();
  }
  constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
  SABREWING_CHECK(std::find(std::begin(kEfforts), std::end(kEfforts), effort) != std::end(kEfforts),
                  kInvalidArgument, "[deepseek_v4] reasoning_effort \"{}\", expected one of: {}", effort,
                  fmt::join(kEfforts, ", "));
  if (effort == "none") options.thinking = false;
  if (effort == "max") options.effort = kMaxEffort;
  if (effort == "high" || effort == "xhigh") options.effort = kHighEffort;
  return options;
}

/// A turn: what the assistant says, or what it is told.
struct Turn {
  enum class Role { kSystem, kDeveloper, kUser, kAssistant };
  /// Of the user: text, or the result of a call.
  struct Block {
    std::string text;
    bool is_result = false;
    std::string call;  ///< its id
  };

  Role role = Role::kUser;
  std::string text;
  std::string reasoning;
  std::vector<chat::MessageCall> calls;
  std::vector<Block> blocks;
  bool has_tools = false;
};

using Role = Turn::Role;

Role role_of(const OrderedJson& message, const std::string& where) {
  static const std::map<std::string_view, Role> roles = {{"system", Role::kSystem},
                                                         {"developer", Role::kDeveloper},
                                                         {"user", Role::kUser},
                                                         {"tool", Role::kUser},
                                                         {"assistant", Role::kAssistant}};
  const std::string& name = chat::message_role(message, where);
  const auto found = roles.find(name);
  if (found == roles.end()) fail(ErrorCode::kInvalidArgument, "{} has the unknown role \"{}\"", where, name);
  return found->second;
}

/// Questions and results that follow each other are one turn.
std::vector<Turn> read_turns(const OrderedJson& messages) {
  std::vector<Turn> turns;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string where = fmt::format("[deepseek_v4] messages[{}]", i);
    Turn turn;
    turn.role = role_of(messages[i], where);
    turn.text = chat::message_text(messages[i], where);
    if (turn.role == Role::kUser) {
      Turn::Block block{std::move(turn.text), chat::message_role(messages[i], where) == "tool", {}};
      if (const std::string* id = string_member(messages[i], "tool_call_id")) block.call = *id;
      if (turns.empty() || turns.back().role != Role::kUser) turns.push_back({});
      turns.back().blocks.push_back(std::move(block));
      continue;
    }
    if (turn.role == Role::kAssistant) {
      turn.calls = chat::message_calls(messages[i], where);
      turn.reasoning = chat::message_reasoning(messages[i], where).value_or("");
    }
    SABREWING_CHECK(turn.role != Role::kDeveloper || !turn.text.empty(), kInvalidArgument,
                    "{}: a developer's message is empty", where);
    turns.push_back(std::move(turn));
  }
  return turns;
}

/// Results in the order of the calls that they answer; text keeps its place.
void sort_results(std::vector<Turn>& turns) {
  std::map<std::string, std::size_t> order;
  for (Turn& turn : turns) {
    if (!turn.calls.empty()) {
      order.clear();
      for (std::size_t i = 0; i < turn.calls.size(); ++i)
        if (!turn.calls[i].id.empty()) order[turn.calls[i].id] = i;
    }
    std::vector<Turn::Block> results;
    std::copy_if(turn.blocks.begin(), turn.blocks.end(), std::back_inserter(results),
                 [](const Turn::Block& block) { return block.is_result; });
    const auto place = [&](const Turn::Block& block) {
      const auto found = order.find(block.call);
      return found == order.end() ? std::size_t{0} : found->second;
    };
    std::stable_sort(results.begin(), results.end(),
                     [&](const Turn::Block& a, const Turn::Block& b) { return place(a) < place(b); });
    auto next = results.begin();
    for (Turn::Block& block : turn.blocks)
      if (block.is_result) block = std::move(*next++);
  }
}

bool asks(const Turn& turn) { return turn.role == Role::kUser || turn.role == Role::kDeveloper; }

/// The place of the last question; -1 without one.
std::ptrdiff_t last_question(const std::vector<Turn>& turns) {
  const auto found = std::find_if(turns.rbegin(), turns.rend(), asks);
  return turns.rend() - found - 1;
}

class Renderer {
 public:
  Renderer(const ChatRequest& request, const Options& options) : request_(request), options_(options) {}

  std::string run(std::vector<Turn> turns) {
    out_ += kBegin;
    if (options_.thinking) out_ += options_.effort;
    last_question_ = last_question(turns);
    for (std::size_t i = 0; i < turns.size(); ++i) {
      write_turn(turns[i], static_cast<std::ptrdiff_t>(i));
      const bool last = i + 1 == turns.size();
      const bool answered = last ? request_.add_generation_prompt : turns[i + 1].role == Role::kAssistant;
      if (turns[i].role != Role::kAssistant && answered) {
        out_ += kAssistantToken;
        out_ += shows_reasoning(static_cast<std::ptrdiff_t>(i)) ? kThinkBegin : kThinkEnd;
      }
    }
    return std::move(out_);
  }

 private:
  /// Whether the answer to turn `i` has its reasoning.
  bool shows_reasoning(std::ptrdiff_t i) const {
    return options_.thinking && (!options_.drop_thinking || i >= last_question_);
  }

  void write_turn(const Turn& turn, std::ptrdiff_t i) {
    if (asks(turn)) out_ += kUserToken;
    if (turn.role == Role::kAssistant) return answer(turn, i);
    out_ += turn.text;
    if (turn.has_tools) tools();
    for (std::size_t k = 0; k < turn.blocks.size(); ++k) {
      if (k > 0) out_ += "\n\n";
      const Turn::Block& block = turn.blocks[k];
      if (block.is_result) out_ += "<tool_result>";
      out_ += block.text;
      if (block.is_result) out_ += "</tool_result>";
    }
  }

  void tools() {
    out_ += "\n\n";
    out_ += fmt::format(kToolsHead, kDsmlMark);
    for (std::size_t i = 0; i < request_.tools.size(); ++i) {
      const std::string where = fmt::format("[deepseek_v4] tools[{}]", i);
      if (i > 0) out_ += "\n";
      out_ += python_json(chat::function_of(request_.tools[i], where));
    }
    out_ += kToolsTail;
  }

  void answer(const Turn& turn, std::ptrdiff_t i) {
    if (options_.thinking && (!options_.drop_thinking || i > last_question_)) {
      out_ += turn.reasoning;
      out_ += kThinkEnd;
    }
    out_ += turn.text;
    if (!turn.calls.empty()) {
      out_ += "\n\n";
      out_ += fmt::format("<{}tool_calls>", kDsmlMark);
      for (const chat::MessageCall& call : turn.calls) write_call(call, i);
      out_ += "\n";
      out_ += fmt::format("</{}tool_calls>", kDsmlMark);
    }
    out_ += kEnd;
  }

  void write_call(const chat::MessageCall& call, std::ptrdiff_t i) {
    const std::string where =
        fmt::format("[deepseek_v4] messages, turn {}: the arguments of {}", i, call.name);
    OrderedJson arguments;
    try {
      arguments = parse_ordered_json(call.arguments, where);
    } catch (const Error& error) {
      fail(ErrorCode::kInvalidArgument, "{}", error.what());
    }
    SABREWING_CHECK(arguments.is_object(), kInvalidArgument, "{} are not an object", where);
    out_ += "\n";
    out_ += fmt::format("<{}invoke name=\"", kDsmlMark);
    out_ += call.name;
    out_ += "\">\n";
    bool first = true;
    for (const auto& [name, value] : arguments.items()) {
      if (!std::exchange(first, false)) out_ += "\n";
      out_ += fmt::format("<{}parameter name=\"", kDsmlMark);
      out_ += name;
      out_ += fmt::format("\" string=\"{}\">", value.is_string());
      out_ += value.is_string() ? value.get<std::string>() : python_json(value);
      out_ += fmt::format("</{}parameter>", kDsmlMark);
    }
    out_ += "\n";
    out_ += fmt::format("</{}invoke>", kDsmlMark);
  }

  const ChatRequest& request_;
  const Options options_;
  std::ptrdiff_t last_question_ = -1;
  std::string out_;
};

}  // namespace

std::string render_deepseek_v4(const ChatRequest& request) {
  SABREWING_CHECK(request.messages.is_array() && !request.messages.empty(), kInvalidArgument,
                  "[deepseek_v4] messages is not a list with at least one message");
  SABREWING_CHECK(request.kwargs.is_object(), kInvalidArgument, "[deepseek_v4] kwargs is not an object");
  SABREWING_CHECK(request.tools.is_null() || request.tools.is_array(), kInvalidArgument,
                  "[deepseek_v4] tools is neither a list nor null");
  const Options options = read_options(request);
  std::vector<Turn> turns = read_turns(request.messages);
  sort_results(turns);
  if (!request.tools.empty()) {
    auto system =
        std::find_if(turns.begin(), turns.end(), [](const Turn& turn) { return turn.role == Role::kSystem; });
    if (system == turns.end()) {
      system = turns.insert(turns.begin(), Turn());
      system->role = Role::kSystem;
    }
    system->has_tools = true;
  }
  if (options.thinking && options.drop_thinking) {
    const auto last = turns.begin() + std::max<std::ptrdiff_t>(last_question(turns), 0);
    const auto dropped =
        std::remove_if(turns.begin(), last, [](const Turn& turn) { return turn.role == Role::kDeveloper; });
    turns.erase(dropped, last);
  }
  return Renderer(request, options).run(std::move(turns));
}

}  // namespace sabrewing::text
