#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/constraints.h"

namespace sabrewing::server {

/// A grammar for one answer, and where it begins.
struct AnswerGrammar {
  text::GrammarSpec spec;
  std::vector<std::int32_t> marker;  ///< it applies after these tokens; empty: from the start
};

/// `chat_prompt` is null for a plain completion, which has no markup. Puts content format and forced calls
/// into the markup of the service's parsers: harmony's channels, the tags around calls, the end of the
/// reasoning. Nothing when nothing is restricted. Throws `ApiError{400}` for a tool parser whose calls cannot
/// be forced.
std::optional<AnswerGrammar> answer_grammar(const Service& service, const ToolChoice& tool_choice,
                                            const std::optional<ContentFormat>& format,
                                            const std::string* chat_prompt);

}  // namespace sabrewing::server
