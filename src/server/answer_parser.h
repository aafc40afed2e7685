#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/constraints.h"
#include "server/service.h"
#include "text/chat/parser.h"

namespace sabrewing::server {

/// Takes one answer of a chat apart with the service's parsers. Not thread safe.
class AnswerParser {
 public:
  /// `prompt`: as rendered.
  AnswerParser(const Service& service, const ToolChoice& tools, const std::string& prompt);

  /// What the update adds to the answer, neighbours of one kind joined; calls after the first are left out
  /// where the request wants one at most. `stop_in_output`: a stop string that was found stays in the text.
  std::vector<text::ChatDelta> take(const engine::RequestUpdate& update, bool stop_in_output = false);

  /// Tokens up to now that were reasoning or its markup.
  std::int64_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  std::unique_ptr<text::ChatParser> parser_;  ///< null without parsers
  bool parallel_calls_;
  bool in_reasoning_ = false;
  std::int64_t reasoning_tokens_ = 0;
};

/// Whether the service has a parser, which needs to see special tokens.
bool has_parser(const Service& service);

}  // namespace sabrewing::server
