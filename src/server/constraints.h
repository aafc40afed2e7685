#pragma once

#include "server/fields.h"
#include "server/generation.h"
#include "server/service.h"

namespace sabrewing::server {

/// What a request's tools ask of the answer.
struct ToolChoice {
  enum class Kind { kNone, kAuto, kRequired, kNamed };
  Kind kind = Kind::kNone;
  std::string name;            ///< with kNamed: the function to call
  OrderedJson tools;           ///< the request's tools (OpenAI's form), null without any
  bool parallel_calls = true;  ///< `parallel_tool_calls`
};

/// Reads `response_format`, `structured_outputs` and the older `guided_*` fields, and what `tool_choice`
/// forces, and sets `request.make_mask` where they restrict the answer. The only place that turns a request
/// into a token mask. Throws `ApiError{400}` with the field's name for an invalid or unsupported one.
void read_constraints(Fields& fields, const Service& service, const ToolChoice& tool_choice,
                      GenerationRequest& request);

}  // namespace sabrewing::server
