#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/error.h"
#include "text/chat_template.h"

/// The input is a template. Any `Error` is an answer; limits are low so that each run is short.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sabrewing;
  static const OrderedJson context = parse_ordered_json(
      R"({"messages": [{"role": "system", "content": "S é"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]},
          {"role": "assistant", "content": "<think>a</think>b", "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, null]}}}]}],
          "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
          "s": "Hello, World", "n": 7, "f": -2.5, "l": [3, 1, 2], "d": {"x": 1, "y": [1, 2]}, "b": true, "o": null,
          "add_generation_prompt": true, "bos_token": "<s>"})",
      "context");
  text::RenderOptions options;
  options.limits.steps = 20000;
  options.limits.output_bytes = 1 << 16;
  options.limits.memory_bytes = 1 << 20;
  options.now = text::LocalTime{2025, 3, 7, 14, 5, 9, 123};
  try {
    text::ChatTemplate(std::string_view(reinterpret_cast<const char*>(data), size)).render(context, options);
  } catch (const Error&) {
  }
  return 0;
}
