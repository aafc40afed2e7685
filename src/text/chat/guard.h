#pragma once

#include <functional>
#include <string>
#include <vector>

#include "text/chat/prompt.h"
#include "text/chat_template.h"

namespace sabrewing::text::chat {

/// The parts of what `render` makes of the request, a template that cannot tell its own text from others'.
/// What users, tools, documents and further variables spell stays text; in messages of the system, the
/// developer and the assistant only special tokens do, as reasoning and calls are markup there. The text is
/// what `render` gives: where a request spells an added token, its first character is replaced by one of a
/// private use area, and the two results are compared. A token that the template looks for in messages, such
/// as the end of the reasoning, is left to it. Throws `Error{kInvalidArgument}` where the texts cannot be
/// made equal.
std::vector<PromptPart> render_guarded(const Tokenizer& tokenizer, const ChatRequest& request,
                                       const std::function<std::string(const ChatRequest&)>& render);

}  // namespace sabrewing::text::chat
