#pragma once

#include <string>

#include "text/chat_template.h"

namespace sabrewing::text {

/// The conversation in DeepSeek-V4's format, equal to the message encoder of vLLM 0.33 (the models have no
/// chat template). System messages stand bare, the tools behind the first one; calls are DSML, results stand
/// in the next turn of the user, in the order of the calls. Reasoning before the last question, and developer
/// messages there, are left out unless there are tools. Variables of `request.kwargs`: `thinking` or
/// `enable_thinking` (default true), `reasoning_effort` (none, minimal, low, medium, high, xhigh, max;
/// default high), `drop_thinking` (default true). Without `request.add_generation_prompt` the prompt ends
/// after the last message. Throws `Error{kInvalidArgument}` naming the message, `Error{kUnsupported}` for
/// content that is no text and tools that are no functions.
std::string render_deepseek_v4(const ChatRequest& request);

}  // namespace sabrewing::text
