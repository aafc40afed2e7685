#include "server/constraints.h"

namespace sabrewing::server {

void read_constraints(Fields& fields, const Service&, const ToolChoice& tool_choice, GenerationRequest&) {
  constexpr std::string_view kWhy = "this build has no grammars";
  if (const OrderedJson* format = fields.object("response_format")) {
    Fields inner(*format, "response_format.");
    const std::string type = inner.string("type").value_or("");
    if (type != "text")
      inner.fail("type", "only \"text\" is supported: this build has no grammars", "unsupported");
  }
  for (const char* name : {"structured_outputs", "guided_json", "guided_regex", "guided_choice",
                           "guided_grammar", "structural_tag"})
    fields.refuse(name, kWhy);
  fields.ignore({"guided_decoding_backend", "guided_whitespace_pattern"});
  if (tool_choice.kind == ToolChoice::Kind::kRequired || tool_choice.kind == ToolChoice::Kind::kNamed)
    fields.fail("tool_choice", "only \"none\" and \"auto\" are supported: this build has no grammars",
                "unsupported");
}

}  // namespace sabrewing::server
