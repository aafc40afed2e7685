#include "server/dialog.h"

#include <utility>

#include "server/answer_parser.h"
#include "server/chat_messages.h"

namespace sabrewing::server {

DialogRequest prepare_dialog(const Service& service, const Dialog& dialog,
                             std::optional<ContentFormat> format, GenerationRequest& request) {
  OrderedJson body = {{"messages", dialog.messages}};
  const auto add = [&](const char* name, const OrderedJson& value) {
    if (!value.is_null()) body[name] = value;
  };
  add("tools", dialog.tools);
  add("tool_choice", dialog.tool_choice);
  add("parallel_tool_calls", dialog.parallel_calls);
  add("reasoning_effort", dialog.reasoning_effort);
  add("chat_template_kwargs", dialog.template_kwargs);
  if (dialog.continue_last) body["continue_final_message"] = true;
  Fields fields(body);
  DialogRequest result;
  result.tools = read_tools(fields, service, kLongToolNameBytes);
  engine::ChatPrompt prompt = render_chat(fields, service, read_messages(fields), result.tools.tools, false);
  result.prompt = std::move(prompt.text);
  request.prompts.push_back(std::move(prompt.ids));
  restrict_answer(service, result.tools, std::move(format), &result.prompt, request);
  if (has_parser(service)) request.common.skip_special_tokens = false;
  return result;
}

}  // namespace sabrewing::server
