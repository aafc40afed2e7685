#pragma once

#include <optional>
#include <string>

#include "server/fields.h"
#include "server/generation.h"
#include "server/service.h"
#include "text/grammar.h"

namespace sabrewing::server {

/// What a request's tools ask of the answer.
struct ToolChoice {
  enum class Kind { kNone, kAuto, kRequired, kNamed };
  Kind kind = Kind::kNone;
  std::string name;            ///< with kNamed: the function to call
  OrderedJson tools;           ///< the request's tools (OpenAI's form), null without any
  bool parallel_calls = true;  ///< `parallel_tool_calls`
};

/// What the text of an answer has to match, and the field that says so.
struct ContentFormat {
  text::GrammarSpec spec;
  std::string field;
};

/// Reads `response_format`, `structured_outputs` and the older `guided_*` fields. Throws `ApiError{400}` with
/// the field's name for an invalid one, and when there are several.
std::optional<ContentFormat> read_content_format(Fields& fields);

/// {"type": "text" | "json_object" | "json_schema" | "structural_tag", ...}: OpenAI's response format, with
/// the schema beside the type (Responses API) or in "json_schema" (chat completions). `field` names it.
std::optional<ContentFormat> read_format(const OrderedJson& format, const std::string& field);

/// Sets `request.restriction` where content format or tool choice restrict the answer to `chat_prompt`, null
/// for a plain completion. What they say applies after the reasoning of a chat; a required call is written as
/// the tool parser expects it. The only place that turns a request into a token mask. Throws `ApiError{400}`
/// for what cannot be forced; the grammar is compiled when the answer starts.
void restrict_answer(const Service& service, const ToolChoice& tool_choice,
                     std::optional<ContentFormat> format, const std::string* chat_prompt,
                     GenerationRequest& request);

}  // namespace sabrewing::server
