#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace sabrewing::text {

/// A piece of a rendered prompt. Added tokens spelled out in markup become tokens; text never does, whatever
/// it spells.
struct PromptPart {
  std::string text;
  bool is_markup = false;
};

std::string join_parts(const std::vector<PromptPart>& parts);
/// Keeps the first `size` bytes.
void truncate_parts(std::vector<PromptPart>& parts, std::size_t size);
std::vector<std::int32_t> encode_parts(const Tokenizer& tokenizer, const std::vector<PromptPart>& parts);

}  // namespace sabrewing::text
