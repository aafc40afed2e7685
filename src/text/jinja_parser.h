#pragma once

#include <string_view>

#include "text/jinja_ast.h"

namespace sabrewing::text::jinja {

/// Parses a template of well-formed UTF-8. Throws `Error{kCorrupt}` on malformed text and nesting that
/// is too deep, `Error{kUnsupported}` for tags, filters and tests that do not exist here; both name the
/// line.
Template parse(std::string_view source);

/// Gives every variable its place and every filter and test its function; part of `parse`.
void analyze_scopes(Template& root);

}  // namespace sabrewing::text::jinja
