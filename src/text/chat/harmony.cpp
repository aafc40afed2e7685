#include "text/chat/harmony.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "text/chat/message.h"
#include "text/chat/typescript.h"

namespace sabrewing::text {
namespace {

using chat::member;
using chat::string_member;

constexpr std::string_view kIdentity = "You are ChatGPT, a large language model trained by OpenAI.";
constexpr std::string_view kCutoff = "2024-06";

/// One message of the format.
struct HarmonyMessage {
  std::string role;
  std::string recipient;
  std::string channel;
  bool json = false;
  std::string content;
};

std::string kwarg(const ChatRequest& request, const char* name, std::string_view otherwise) {
  const OrderedJson* value = member(request.kwargs, name);
  if (value == nullptr || value->is_null()) return std::string(otherwise);
  SABREWING_CHECK(value->is_string(), kInvalidArgument, "[harmony] {} is not a string", name);
  return value->get<std::string>();
}

std::string system_text(const ChatRequest& request, const RenderOptions& options) {
  const std::string effort = kwarg(request, "reasoning_effort", "medium");
  SABREWING_CHECK(effort == "low" || effort == "medium" || effort == "high", kInvalidArgument,
                  "[harmony] reasoning_effort \"{}\", expected low, medium or high", effort);
  const LocalTime now = options.now ? *options.now : local_time();
  const std::string date =
      kwarg(request, "current_date", fmt::format("{:04}-{:02}-{:02}", now.year, now.month, now.day));
  std::string text = fmt::format(
      "{}\nKnowledge cutoff: {}\nCurrent date: {}\n\nReasoning: {}\n\n# Valid channels: analysis, "
      "commentary, "
      "final. Channel must be included for every message.",
      kwarg(request, "model_identity", kIdentity), kwarg(request, "knowledge_cutoff", kCutoff), date, effort);
  if (request.tools.is_array() && !request.tools.empty())
    text += "\nCalls to these tools must go to the commentary channel: 'functions'.";
  return text;
}

void append_comment(std::string& out, std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    fmt::format_to(std::back_inserter(out), "// {}\n", line);
  }
}

std::string tools_text(const OrderedJson& tools) {
  std::string out = "# Tools\n\n## functions\n\nnamespace functions {\n\n";
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const std::string where = fmt::format("[harmony] tools[{}]", i);
    const OrderedJson& function = chat::function_of(tools[i], where);
    if (const std::string* description = string_member(function, "description"))
      append_comment(out, *description);
    const std::string* name = string_member(function, "name");
    SABREWING_CHECK(name != nullptr, kInvalidArgument, "{} has no name", where);
    const OrderedJson* parameters = member(function, "parameters");
    if (parameters == nullptr || parameters->is_null()) {
      fmt::format_to(std::back_inserter(out), "type {} = () => any;\n\n", *name);
    } else {
      fmt::format_to(std::back_inserter(out), "type {} = (_: {}) => any;\n\n", *name,
                     chat::typescript_type(*parameters, where));
    }
  }
  return out + "} // namespace functions";
}

/// OpenAI's `response_format`; nothing for plain text.
std::optional<std::string> response_format_text(const ChatRequest& request) {
  const OrderedJson* format = member(request.kwargs, "response_format");
  if (format == nullptr || format->is_null()) return std::nullopt;
  const std::string* type = string_member(*format, "type");
  SABREWING_CHECK(type != nullptr, kInvalidArgument, "[harmony] response_format has no type");
  if (*type != "json_schema") return std::nullopt;
  const OrderedJson* nested = member(*format, "json_schema");
  const OrderedJson& named = nested != nullptr ? *nested : *format;
  const std::string* name = string_member(named, "name");
  const OrderedJson* schema = member(named, "schema");
  SABREWING_CHECK(schema != nullptr, kInvalidArgument, "[harmony] response_format has no schema");
  std::string out =
      fmt::format("# Response Formats\n\n## {}\n\n", name != nullptr ? *name : std::string("response"));
  if (const std::string* description = string_member(named, "description")) {
    append_comment(out, *description);
    out += '\n';
  }
  return out + schema->dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

std::string developer_text(const std::string& instructions, const ChatRequest& request) {
  std::vector<std::string> sections;
  if (!instructions.empty()) sections.push_back("# Instructions\n\n" + instructions);
  if (request.tools.is_array() && !request.tools.empty()) sections.push_back(tools_text(request.tools));
  if (std::optional<std::string> format = response_format_text(request))
    sections.push_back(*std::move(format));
  return fmt::format("{}", fmt::join(sections, "\n\n"));
}

/// What a message of the request becomes.
class Converter {
 public:
  void add(const OrderedJson& message, std::size_t index) {
    const std::string where = fmt::format("[harmony] messages[{}]", index);
    const std::string& role = chat::message_role(message, where);
    if (role == "assistant") {
      add_assistant(message, where);
    } else if (role == "tool") {
      add_result(message, where);
    } else if (role == "system" || role == "developer") {
      out.push_back({"developer", "", "", false, "# Instructions\n\n" + chat::message_text(message, where)});
    } else if (role == "user") {
      out.push_back({"user", "", "", false, chat::message_text(message, where)});
    } else {
      fail(ErrorCode::kInvalidArgument, "{} has the unknown role \"{}\"", where, role);
    }
  }

  /// Analysis that led to an answer already given is not shown again.
  void drop_analysis() {
    const auto last = std::find_if(out.rbegin(), out.rend(),
                                   [](const HarmonyMessage& message) { return message.channel == "final"; });
    const auto old = std::remove_if(out.begin(), last.base(), [](const HarmonyMessage& message) {
      return message.channel == "analysis";
    });
    out.erase(old, last.base());
  }

  std::vector<HarmonyMessage> out;

 private:
  void add_assistant(const OrderedJson& message, const std::string& where) {
    const std::vector<chat::MessageCall> calls = chat::message_calls(message, where);
    const std::string content = chat::message_text(message, where);
    const std::optional<std::string> reasoning = chat::message_reasoning(message, where);
    if (reasoning) out.push_back({"assistant", "", "analysis", false, *reasoning});
    if (!calls.empty() && !content.empty()) out.push_back({"assistant", "", "commentary", false, content});
    if (calls.empty() && (!content.empty() || !reasoning))
      out.push_back({"assistant", "", "final", false, content});
    for (const chat::MessageCall& call : calls) {
      out.push_back({"assistant", "functions." + call.name, "commentary", true, call.arguments});
      calls_.push_back(call);
    }
  }

  void add_result(const OrderedJson& message, const std::string& where) {
    const std::string* name = string_member(message, "name");
    std::string called = name != nullptr ? *name : "";
    if (const std::string* id = string_member(message, "tool_call_id"); called.empty() && id != nullptr) {
      const auto found = std::find_if(calls_.rbegin(), calls_.rend(),
                                      [&](const chat::MessageCall& call) { return call.id == *id; });
      if (found != calls_.rend()) called = found->name;
    }
    SABREWING_CHECK(!called.empty(), kInvalidArgument,
                    "{} answers no earlier call: its tool_call_id is unknown and it has no name", where);
    out.push_back(
        {"functions." + called, "assistant", "commentary", false, chat::message_text(message, where)});
  }

  std::vector<chat::MessageCall> calls_;
};

class Parts {
 public:
  void markup(std::string_view text) { add(text, true); }
  void text(std::string_view text) {
    if (!text.empty()) add(text, false);
  }

  void message(const HarmonyMessage& message) {
    markup("<|start|>");
    text(message.role);
    if (!message.recipient.empty()) text(" to=" + message.recipient);
    if (!message.channel.empty()) {
      markup("<|channel|>");
      text(message.channel);
    }
    if (message.json) {
      text(" ");
      markup("<|constrain|>");
      text("json");
    }
    markup("<|message|>");
    text(message.content);
    markup(message.json ? "<|call|>" : "<|end|>");
  }

  std::vector<PromptPart> out;

 private:
  void add(std::string_view text, bool is_markup) {
    if (!is_markup && !out.empty() && !out.back().is_markup) {
      out.back().text += text;
    } else {
      out.push_back({std::string(text), is_markup});
    }
  }
};

}  // namespace

std::vector<PromptPart> render_harmony_parts(const ChatRequest& request, const RenderOptions& options) {
  SABREWING_CHECK(request.messages.is_array() && !request.messages.empty(), kInvalidArgument,
                  "[harmony] messages is not a list with at least one message");
  SABREWING_CHECK(request.kwargs.is_object(), kInvalidArgument, "[harmony] kwargs is not an object");
  SABREWING_CHECK(request.tools.is_null() || request.tools.is_array(), kInvalidArgument,
                  "[harmony] tools is neither a list nor null");
  std::string instructions;
  std::size_t first = 0;
  for (; first < request.messages.size(); ++first) {
    const std::string where = fmt::format("[harmony] messages[{}]", first);
    const std::string& role = chat::message_role(request.messages[first], where);
    if (role != "system" && role != "developer") break;
    if (!instructions.empty()) instructions += "\n\n";
    instructions += chat::message_text(request.messages[first], where);
  }
  Converter converter;
  for (std::size_t i = first; i < request.messages.size(); ++i) converter.add(request.messages[i], i);
  converter.drop_analysis();

  Parts parts;
  parts.message({"system", "", "", false, system_text(request, options)});
  const std::string developer = developer_text(instructions, request);
  if (!developer.empty()) parts.message({"developer", "", "", false, developer});
  for (const HarmonyMessage& message : converter.out) parts.message(message);
  if (request.add_generation_prompt) {
    parts.markup("<|start|>");
    parts.text("assistant");
  }
  return std::move(parts.out);
}

std::string render_harmony(const ChatRequest& request, const RenderOptions& options) {
  return join_parts(render_harmony_parts(request, options));
}

}  // namespace sabrewing::text
