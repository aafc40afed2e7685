#pragma once

#include <string>
#include <vector>

#include "text/chat/prompt.h"
#include "text/chat_template.h"

namespace sabrewing::text {

/// The conversation in gpt-oss' harmony format, equal to the openai-harmony package's rendering. System and
/// developer messages at the start and the tools become the developer message. An assistant's reasoning
/// becomes analysis, its content the final answer, or a preamble beside tool calls. Analysis before the last
/// final answer is left out. Variables of `request.kwargs`: `reasoning_effort` (low, medium, high),
/// `model_identity`, `knowledge_cutoff`, `current_date` (text; else the date of `options.now`) and
/// `response_format` (OpenAI's object). Throws `Error{kInvalidArgument}` naming the message,
/// `Error{kUnsupported}` for content that is no text and tools that are no functions.
std::vector<PromptPart> render_harmony_parts(const ChatRequest& request, const RenderOptions& options = {});
std::string render_harmony(const ChatRequest& request, const RenderOptions& options = {});

}  // namespace sabrewing::text
