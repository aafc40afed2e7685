#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"

namespace sabrewing::text {

struct Tokenizer::Impl {
  struct Token {
    std::string bytes;  ///< what decode emits
    bool present = false;
    bool special = false;
  };

  std::vector<Token> tokens;           ///< by id
  StringMap<std::int32_t> names;       ///< added tokens, and vocabulary entries that are not byte-level text
  AddedTokenMatcher raw_added;         ///< looked for in the text as given
  AddedTokenMatcher normalized_added;  ///< looked for after normalization
  Normalizer normalizer;
  Pretokenizer pretokenizer;
  Bpe bpe;
  std::vector<std::int32_t> prefix;  ///< what the post-processor puts around the ids
  std::vector<std::int32_t> suffix;
};

}  // namespace sabrewing::text
