#include "text/chat/prompt.h"

namespace sabrewing::text {

std::string join_parts(const std::vector<PromptPart>& parts) {
  std::string out;
  for (const PromptPart& part : parts) out += part.text;
  return out;
}

std::vector<std::int32_t> encode_parts(const Tokenizer& tokenizer, const std::vector<PromptPart>& parts) {
  std::vector<std::int32_t> ids;
  for (const PromptPart& part : parts) {
    const std::vector<std::int32_t> more = tokenizer.encode(part.text, false, part.is_markup);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

}  // namespace sabrewing::text
