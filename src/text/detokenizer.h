#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace sabrewing::text {

/// Turns ids into text one at a time. Bytes that may be the start of a character wait for the rest, so
/// every piece is well-formed UTF-8, and all pieces together equal `Tokenizer::decode` of all ids.
class Detokenizer {
 public:
  Detokenizer(Tokenizer tokenizer, bool skip_special_tokens)
      : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}

  /// The text that may be shown now. Throws `Error{kInvalidArgument}` for an id without a token.
  std::string push(std::int32_t id);

  /// What is left at the end, U+FFFD for an unfinished character; then ready for another sequence.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  std::string pending_;
};

}  // namespace sabrewing::text
