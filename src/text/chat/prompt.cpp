#include "text/chat/prompt.h"

namespace sabrewing::text {

std::string join_parts(const std::vector<PromptPart>& parts) {
  std::string out;
  for (const PromptPart& part : parts) out += part.text;
  return out;
}

void truncate_parts(std::vector<PromptPart>& parts, std::size_t size) {
  std::size_t kept = 0;
  while (kept < parts.size() && size >= parts[kept].text.size()) size -= parts[kept++].text.size();
  if (kept == parts.size()) return;
  parts[kept].text.resize(size);
  parts.resize(size > 0 ? kept + 1 : kept);
}

std::vector<std::int32_t> encode_parts(const Tokenizer& tokenizer, const std::vector<PromptPart>& parts) {
  std::vector<std::int32_t> ids;
  for (const PromptPart& part : parts) {
    const std::vector<std::int32_t> more =
        part.is_markup ? tokenizer.encode(part.text) : tokenizer.encode_plain(part.text);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

}  // namespace sabrewing::text
