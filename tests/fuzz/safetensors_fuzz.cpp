// Feeds bytes to everything that reads a checkpoint's structure: as a safetensors file, as the header of one
// (up to the first NUL, the rest being its data), as an index and as a config with a quantization_config.
// Only `Error` may come out, and every view must be readable.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "formats/checkpoint/checkpoint.h"
#include "formats/checkpoint/safetensors.h"
#include "formats/scheme/scheme.h"

namespace {

using namespace sabrewing;
using namespace sabrewing::formats;

void check_message(const Error& error) {
  if (std::string_view(error.what()).empty()) __builtin_trap();
}

void read_file(std::span<const std::byte> bytes) {
  try {
    const SafetensorsContent content = parse_safetensors(bytes, "input");
    std::size_t total = 0;
    volatile unsigned sum = 0;
    for (const auto& [name, view] : content.tensors) {
      total += view.bytes.size();
      for (std::byte byte : view.bytes) sum = sum + std::to_integer<unsigned>(byte);
      const auto elements = view.shape.checked_elements();
      if (!elements || static_cast<std::size_t>(*elements) * size_of(view.dtype) != view.bytes.size())
        __builtin_trap();
    }
    if (total > bytes.size()) __builtin_trap();
  } catch (const Error& error) {
    check_message(error);
  }
}

void read_as_header(std::string_view text) {
  const std::size_t split = std::min(text.find('\0'), text.size());
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(split >> (8 * i) & 0xff);
  file.append(text.substr(0, split));
  if (split < text.size()) file.append(text.substr(split + 1));
  read_file(std::as_bytes(std::span(file)));
}

void read_index(std::string_view text) {
  try {
    parse_weight_map(text, "input");
  } catch (const Error& error) {
    check_message(error);
  }
}

void read_config(std::string_view text) {
  try {
    const auto scheme = parse_scheme(parse_json(text, "input"), "input");
    constexpr std::string_view kModule = "model.layers.0.mlp.experts.gate_up_proj";
    scheme->configured(kModule);
    scheme->locate(kModule, [](std::string_view) -> const TensorView* { return nullptr; });
  } catch (const Error& error) {
    check_message(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read_file(std::as_bytes(std::span(data, size)));
  read_as_header(text);
  read_index(text);
  read_config(text);
  return 0;
}
