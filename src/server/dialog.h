#pragma once

#include <string>
#include <vector>

#include "server/constraints.h"
#include "server/generation.h"
#include "server/service.h"

namespace sabrewing::server {

/// A conversation that another protocol than chat completions asks to continue, in chat completions' terms.
struct Dialog {
  OrderedJson messages = OrderedJson::array();
  OrderedJson tools;             ///< null for none
  OrderedJson tool_choice;       ///< null for the default
  OrderedJson parallel_calls;    ///< null for the default
  OrderedJson reasoning_effort;  ///< null for the model's
  OrderedJson template_kwargs;   ///< null for none
  bool continue_last = false;    ///< the last message is the answer's beginning
};

/// A dialog made ready for the engine.
struct DialogRequest {
  ToolChoice tools;
  std::string prompt;  ///< rendered
};

/// Checks and renders the dialog, sets `request.prompts` and the mask, which `format` and the tool choice ask
/// for.
DialogRequest prepare_dialog(const Service& service, const Dialog& dialog,
                             std::optional<ContentFormat> format, GenerationRequest& request);

}  // namespace sabrewing::server
