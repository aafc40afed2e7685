// Feeds bytes to the tokenizer: up to the first NUL as a tokenizer.json, and as a merge patch over a small
// valid one; the rest is text to encode. Only `Error` may come out.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "text/byte_level.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace {

using namespace sabrewing;
using namespace sabrewing::text;

Json small_tokenizer() {
  Json json = Json::parse(R"({
    "added_tokens": [
      {"id": 259, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": true, "normalized": false, "special": true},
      {"id": 260, "content": "word", "single_word": true, "lstrip": false, "rstrip": false, "normalized": true, "special": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {}, "merges": ["a b", "b c", "ab c"]}})");
  Json& vocab = json["model"]["vocab"];
  for (int byte = 0; byte < 256; ++byte) vocab[to_byte_level(std::string(1, static_cast<char>(byte)))] = byte;
  vocab["ab"] = 256;
  vocab["bc"] = 257;
  vocab["abc"] = 258;
  return json;
}

void use(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool flag : {false, true}) {
    std::vector<std::int32_t> ids;
    try {
      ids = tokenizer.encode(text, flag, !flag);
    } catch (const Error&) {
      continue;
    }
    Detokenizer detokenizer(tokenizer, flag);
    std::string pieces;
    for (const std::int32_t id : ids) {
      if (!tokenizer.has_token(id)) __builtin_trap();
      pieces += detokenizer.push(id);
      if (find_invalid_utf8(pieces)) __builtin_trap();
    }
    pieces += detokenizer.flush();
    if (pieces != tokenizer.decode(ids, flag)) __builtin_trap();
  }
}

void load_and_use(std::string_view json, std::string_view text) {
  try {
    use(Tokenizer::from_json(json, "input"), text);
  } catch (const Error& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Json base = small_tokenizer();
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t nul = input.find('\0');
  const std::string_view json = input.substr(0, nul);
  const std::string_view text =
      nul == std::string_view::npos ? "abc <s> Word's 12 \xC3\xA9" : input.substr(nul + 1);
  load_and_use(json, text);
  try {
    Json patched = base;
    patched.merge_patch(parse_json(json, "patch"));
    load_and_use(patched.dump(), text);
  } catch (const Error&) {
  }
  return 0;
}
