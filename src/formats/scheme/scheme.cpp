#include "formats/scheme/scheme.h"

#include <algorithm>
#include <array>
#include <system_error>

#include "core/error.h"
#include "core/json.h"
#include "core/printable.h"
#include "formats/scheme/scheme_parts.h"

namespace sabrewing::formats {
namespace {

constexpr std::string_view kSupported = "supported are mxfp4 (gpt_oss) and unquantized BF16, FP16 and FP32";

/// The value of `key` at the top level or under text_config; null when there is none.
const Json& quantization_of(const Json& config, const char* key, std::string_view what) {
  static const Json kNone;
  const auto get = [&](const Json& object) -> const Json& {
    const auto found = object.find(key);
    return found == object.end() ? kNone : *found;
  };
  const Json& outer = get(config);
  const auto text = config.find("text_config");
  if (text == config.end() || !text->is_object()) return outer;
  const Json& inner = get(*text);
  SABREWING_CHECK(outer.is_null() || inner.is_null() || outer == inner, kCorrupt,
                  "[scheme] {}: {} and text_config.{} differ", what, key, key);
  return inner.is_null() ? outer : inner;
}

std::string string_field(const Json& object, const char* key, std::string_view what) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return "";
  SABREWING_CHECK(found->is_string(), kCorrupt, "[scheme] {}: {} is not a string", what, key);
  return found->get<std::string>();
}

class UnquantizedScheme final : public Scheme {
 public:
  std::string_view name() const override { return "none"; }
  std::optional<WeightFormat> configured(std::string_view) const override { return std::nullopt; }
  StoredWeight locate(std::string_view module, const TensorFinder& find) const override {
    return locate_plain(module, find, "config.json has no quantization_config");
  }
};

std::optional<WeightFormat> plain_format(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return WeightFormat::bf16();
    case DType::kF16:
      return WeightFormat::fp16();
    case DType::kF32:
      return WeightFormat::fp32();
    default:
      return std::nullopt;
  }
}

}  // namespace

std::unique_ptr<Scheme> make_unquantized_scheme() { return std::make_unique<UnquantizedScheme>(); }

void check_known_fields(const Json& quantization, std::initializer_list<std::string_view> known,
                        std::string_view what) {
  for (const auto& [key, value] : quantization.items()) {
    SABREWING_CHECK(std::find(known.begin(), known.end(), key) != known.end(), kUnsupported,
                    "[scheme] {}: quantization_config.{} is not supported with quant_method {}", what,
                    printable(key), quantization.at("quant_method").dump());
  }
}

std::string plain_tensor_name(std::string_view module, const TensorFinder& find) {
  const std::string weight = std::string(module) + ".weight";
  if (find(weight) != nullptr) return weight;
  return find(module) != nullptr ? std::string(module) : std::string();
}

StoredWeight locate_plain(std::string_view module, const TensorFinder& find, std::string_view rule) {
  const std::string name = plain_tensor_name(module, find);
  if (name.empty()) {
    for (const char* suffix : {"_blocks", ".weight_packed", ".qweight"}) {
      SABREWING_CHECK(find(std::string(module) + suffix) == nullptr, kCorrupt,
                      "[scheme] module {}: {}, but the checkpoint has the quantized tensor {}",
                      printable(module), rule, printable(std::string(module) + suffix));
    }
    fail(ErrorCode::kNotFound, "[scheme] module {}: tensor {} is missing", printable(module),
         printable(std::string(module) + ".weight"));
  }
  const TensorView& tensor = *find(name);
  const auto format = plain_format(tensor.dtype);
  SABREWING_CHECK(format, kCorrupt, "[scheme] module {}: {}, but tensor {} has dtype {}", printable(module),
                  rule, printable(name), to_string(tensor.dtype));
  return {*format, tensor.shape, name, ""};
}

std::unique_ptr<Scheme> parse_scheme(const Json& config, std::string_view what) {
  SABREWING_CHECK(config.is_object(), kCorrupt, "[scheme] {}: is not an object", what);
  SABREWING_CHECK(quantization_of(config, "compression_config", what).is_null(), kUnsupported,
                  "[scheme] {}: compression_config is not supported; {}", what, kSupported);
  const Json& quantization = quantization_of(config, "quantization_config", what);
  if (quantization.is_null()) return make_unquantized_scheme();
  SABREWING_CHECK(quantization.is_object(), kCorrupt, "[scheme] {}: quantization_config is not an object",
                  what);
  const std::string method = string_field(quantization, "quant_method", what);
  SABREWING_CHECK(!method.empty(), kCorrupt, "[scheme] {}: quantization_config.quant_method is missing",
                  what);
  if (method == "mxfp4")
    return make_mxfp4_scheme(quantization, string_field(config, "model_type", what), what);
  fail(ErrorCode::kUnsupported, "[scheme] {}: quantization_config.quant_method {} is not supported; {}", what,
       printable(method), kSupported);
}

std::unique_ptr<Scheme> load_scheme(const std::filesystem::path& folder, const Json& config) {
  auto scheme = parse_scheme(config, (folder / "config.json").string());
  if (scheme->name() != "none") return scheme;
  for (const char* name : {"quantize_config.json", "quant_config.json", "hf_quant_config.json"}) {
    std::error_code ignored;
    SABREWING_CHECK(!std::filesystem::exists(folder / name, ignored), kUnsupported,
                    "[scheme] {}: a separate quantization configuration is not supported; {}",
                    (folder / name).string(), kSupported);
  }
  return scheme;
}

}  // namespace sabrewing::formats
