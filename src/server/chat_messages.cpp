#include "server/chat_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <set>

#include "server/errors.h"
#include "text/utf8.h"

namespace sabrewing::server {
namespace {

constexpr std::size_t kMostMessages = 16384;
constexpr std::size_t kMostTools = 1024;
constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};

OrderedJson read_arguments(const OrderedJson& arguments, const std::string& path) {
  if (arguments.is_object()) return arguments;
  if (!arguments.is_string()) refuse(path, "a string with a JSON object expected");
  const auto& text = arguments.get_ref<const std::string&>();
  if (text.empty()) return OrderedJson::object();
  OrderedJson parsed;
  try {
    parsed = parse_ordered_json(text, path);
  } catch (const Error& error) {
    refuse(path, to_api_error(Error(ErrorCode::kInvalidArgument, error.what())).message);
  }
  if (parsed.is_object()) return parsed;
  refuse(path, "is not one JSON object");
}

OrderedJson read_tool_calls(const OrderedJson& calls, const std::string& path) {
  if (!calls.is_array()) refuse(path, fmt::format("a list expected, found {}", type_of(calls)));
  OrderedJson result = OrderedJson::array();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", path, i);
    Fields call(calls[i], where + ".");
    const OrderedJson* function = call.object("function");
    if (function == nullptr) refuse(where, "function is missing");
    Fields inner(*function, where + ".function.");
    if (!inner.string("name")) refuse(where + ".function.name", "is missing");
    OrderedJson copy = calls[i];
    const OrderedJson* arguments = inner.find("arguments");
    copy["function"]["arguments"] = arguments == nullptr
                                        ? OrderedJson::object()
                                        : read_arguments(*arguments, where + ".function.arguments");
    result.push_back(std::move(copy));
  }
  return result;
}

}  // namespace

OrderedJson read_content(const OrderedJson& content, const std::string& path) {
  if (content.is_string() || content.is_null()) return content;
  if (!content.is_array())
    refuse(path, fmt::format("a string or a list of parts expected, found {}", type_of(content)));
  std::string joined;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", path, i);
    std::string text;
    if (content[i].is_string()) {
      text = content[i].get<std::string>();
    } else {
      Fields part(content[i], where + ".");
      const std::string type = part.string("type").value_or("text");
      if (type != "text" && type != "input_text" && type != "output_text" && type != "refusal")
        refuse(where + ".type",
               fmt::format("{} parts are not supported: this server takes text only",
                           text::one_line("\"" + type + "\"")),
               "unsupported");
      const auto found = part.string(type == "refusal" ? "refusal" : "text");
      if (!found) refuse(where + ".text", "is missing");
      text = *found;
    }
    if (i > 0) joined += '\n';
    joined += text;
  }
  return joined;
}

OrderedJson read_messages(Fields& fields) {
  const OrderedJson* messages = fields.array("messages");
  if (messages == nullptr) throw ApiError(400, "messages: a list expected", "messages");
  if (messages->empty() || messages->size() > kMostMessages)
    fields.fail("messages", fmt::format("{} messages: 1 to {} expected", messages->size(), kMostMessages));
  OrderedJson result = OrderedJson::array();
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    Fields message((*messages)[i], where + ".");
    const auto role = message.string("role", 64);
    if (!role || role->empty()) refuse(where + ".role", "is missing");
    if (std::find(std::begin(kRoles), std::end(kRoles), *role) == std::end(kRoles))
      refuse(where + ".role", fmt::format("{} is not known: {} expected", text::one_line("\"" + *role + "\""),
                                          fmt::join(kRoles, ", ")));
    for (const char* name : {"reasoning", "reasoning_content", "name"}) message.string(name);
    if (!message.string("tool_call_id") && *role == "tool")
      refuse(where + ".tool_call_id", "is missing: the id of the call that the message answers");
    OrderedJson copy = (*messages)[i];
    if (copy.contains("content")) copy["content"] = read_content(copy["content"], where + ".content");
    if (const OrderedJson* calls = message.find("tool_calls")) {
      copy["tool_calls"] = read_tool_calls(*calls, where + ".tool_calls");
      if (copy["tool_calls"].empty()) copy.erase("tool_calls");
    }
    if (!copy.contains("content") || copy["content"].is_null()) {
      if (!copy.contains("tool_calls") && *role != "assistant") refuse(where + ".content", "is missing");
      // Templates read it without asking whether it is there.
      copy["content"] = "";
    }
    message.find("audio");
    if (copy.contains("audio") && !copy["audio"].is_null())
      refuse(where + ".audio", "audio is not supported: this server takes text only", "unsupported");
    result.push_back(std::move(copy));
  }
  return result;
}

void check_tool_name(std::string_view name, const std::string& path, std::size_t longest) {
  const bool legal = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
  if (!legal || name.empty() || name.size() > longest)
    refuse(path, fmt::format("{} is no name of a function: 1 to {} letters, digits, '_' and '-' expected",
                             text::one_line(fmt::format("\"{}\"", name), 200), longest));
}

namespace {

void check_tool(const OrderedJson& tool, const std::string& path, std::size_t longest_name) {
  Fields fields(tool, path + ".");
  const std::string type = fields.string("type").value_or("");
  if (type != "function")
    refuse(path + ".type",
           fmt::format("{} tools are not supported, only functions", text::one_line("\"" + type + "\"")),
           "unsupported");
  const OrderedJson* function = fields.object("function");
  if (function == nullptr) refuse(path + ".function", "is missing");
  Fields inner(*function, path + ".function.");
  const auto name = inner.string("name");
  if (!name) refuse(path + ".function.name", "is missing");
  check_tool_name(*name, path + ".function.name", longest_name);
  inner.string("description");
  inner.object("parameters");
}

}  // namespace

void check_tools(const OrderedJson& tools, std::size_t longest_name) {
  std::set<std::string, std::less<>> names;
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const std::string path = fmt::format("tools[{}]", i);
    check_tool(tools[i], path, longest_name);
    const auto& name = tools[i]["function"]["name"].get_ref<const std::string&>();
    if (!names.insert(name).second)
      refuse(path + ".function.name", fmt::format("two tools are named {}", name));
  }
}

ToolChoice read_tools(Fields& fields, const Service& service, std::size_t longest_name) {
  ToolChoice result;
  result.parallel_calls = fields.boolean("parallel_tool_calls").value_or(true);
  fields.refuse("functions", "use tools");
  fields.refuse("function_call", "use tool_choice");
  const OrderedJson* tools = fields.array("tools");
  const OrderedJson* choice = fields.find("tool_choice");
  if (tools != nullptr && tools->size() > kMostTools)
    fields.fail("tools", fmt::format("{} tools, at most {}", tools->size(), kMostTools));
  const bool any = tools != nullptr && !tools->empty();
  if (any) check_tools(*tools, longest_name);
  if (choice == nullptr) {
    result.kind = any ? ToolChoice::Kind::kAuto : ToolChoice::Kind::kNone;
  } else if (choice->is_string()) {
    const auto& text = choice->get_ref<const std::string&>();
    if (text == "none")
      result.kind = ToolChoice::Kind::kNone;
    else if (text == "auto")
      result.kind = any ? ToolChoice::Kind::kAuto : ToolChoice::Kind::kNone;
    else if (text == "required")
      result.kind = ToolChoice::Kind::kRequired;
    else
      fields.fail("tool_choice", "\"none\", \"auto\", \"required\" or a function expected");
  } else {
    Fields named(*choice, "tool_choice.");
    const OrderedJson* function = named.object("function");
    if (named.string("type").value_or("") != "function" || function == nullptr)
      fields.fail("tool_choice", "{\"type\": \"function\", \"function\": {\"name\"}} expected");
    result.kind = ToolChoice::Kind::kNamed;
    result.name = Fields(*function, "tool_choice.function.").string("name").value_or("");
    bool known = false;
    if (any)
      for (const OrderedJson& tool : *tools) known |= tool["function"]["name"] == result.name;
    if (!known) fields.fail("tool_choice", fmt::format("no tool is named {}", text::one_line(result.name)));
  }
  if (result.kind == ToolChoice::Kind::kNone) return result;
  if (!any) fields.fail("tool_choice", "there are no tools");
  if (service.options().tool_parser.empty())
    fields.fail("tools", "this server was started without --tool-call-parser, so calls would not be found",
                "unsupported");
  result.tools = *tools;
  return result;
}

engine::ChatPrompt render_chat(Fields& fields, const Service& service, OrderedJson messages,
                               const OrderedJson& tools, bool add_special_tokens) {
  text::ChatRequest chat;
  const bool continued = fields.boolean("continue_final_message").value_or(false);
  chat.add_generation_prompt = fields.boolean("add_generation_prompt").value_or(!continued);
  if (continued && chat.add_generation_prompt)
    fields.fail("continue_final_message", "not together with add_generation_prompt");
  if (const OrderedJson* kwargs = fields.object("chat_template_kwargs")) chat.kwargs = *kwargs;
  if (const auto effort = fields.string("reasoning_effort", 64)) {
    if (effort->empty()) fields.fail("reasoning_effort", "is empty");
    if (!chat.kwargs.contains("reasoning_effort")) chat.kwargs["reasoning_effort"] = *effort;
  }
  if (const OrderedJson* documents = fields.array("documents")) chat.documents = *documents;
  fields.refuse("chat_template", "the server's own template is used");
  chat.tools = tools;
  chat.messages = std::move(messages);
  // Most templates know no developer and would leave the message out.
  const auto& templates = service.model().chat_templates;
  const bool knows_developer =
      templates && (!templates->builtin_model_type().empty() ||
                    templates->source("default").find("developer") != std::string::npos);
  if (!knows_developer)
    for (OrderedJson& message : chat.messages)
      if (message["role"] == "developer") message["role"] = "system";
  std::vector<text::PromptPart> parts = service.render(chat);
  if (!continued) return {text::join_parts(parts), service.encode_chat(parts, add_special_tokens)};

  // The prompt ends where the last message's text does.
  const OrderedJson& last = chat.messages.back();
  const std::string text = last["content"].get<std::string>();
  const std::size_t end = text.find_last_not_of(" \t\r\n\f\v");
  const std::string trimmed = end == std::string::npos ? std::string() : text.substr(0, end + 1);
  if (trimmed.empty()) fields.fail("continue_final_message", "the last message has no text");
  std::string rendered = text::join_parts(parts);
  const std::size_t at = rendered.rfind(trimmed);
  if (at == std::string::npos)
    fields.fail("continue_final_message", "the chat template does not show the last message's text");
  // Templates that strip leave the shorter text; then the prompt ends with it.
  const bool whole = rendered.compare(at, text.size(), text) == 0;
  rendered.resize(at + (whole ? text.size() : trimmed.size()));
  text::truncate_parts(parts, rendered.size());
  return {std::move(rendered), service.encode_chat(parts, add_special_tokens)};
}

}  // namespace sabrewing::server
