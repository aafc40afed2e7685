#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/printable.h"
#include "formats/checkpoint/names.h"
#include "formats/scheme/scheme_parts.h"

namespace sabrewing::formats {
namespace {

constexpr std::int64_t kGroup = 32;
constexpr std::int64_t kGroupBytes = 16;

/// Whether an entry of modules_to_not_convert covers `module`: '*' stands for any run of characters, and
/// the entry has to match whole dotted components at the start or at the end of the name.
bool covers(const std::string& entry, std::string_view module) {
  return matches_glob(entry, module) || matches_glob(entry + ".*", module) ||
         matches_glob("*." + entry, module);
}

/// The experts of gpt-oss: "<module>_blocks" U8 (E, N, K/32, 16) holds two E2M1 per byte, the even element
/// in the low nibble, and "<module>_scales" U8 (E, N, K/32) their E8M0 scales. Everything else is plain.
class Mxfp4Scheme final : public Scheme {
 public:
  explicit Mxfp4Scheme(std::vector<std::string> skipped) : skipped_(std::move(skipped)) {}

  std::string_view name() const override { return "mxfp4"; }

  std::optional<WeightFormat> configured(std::string_view module) const override {
    if (!is_expert(module) || skip_entry(module) != nullptr) return std::nullopt;
    return WeightFormat::mxfp4();
  }

  StoredWeight locate(std::string_view module, const TensorFinder& find) const override {
    if (!configured(module)) {
      const std::string* entry = skip_entry(module);
      const std::string rule = entry == nullptr
                                   ? "quant_method mxfp4 quantizes experts only"
                                   : fmt::format("modules_to_not_convert has {}", printable(*entry));
      return locate_plain(module, find, rule);
    }
    const std::string blocks_name = std::string(module) + "_blocks";
    const std::string scales_name = std::string(module) + "_scales";
    const TensorView* blocks = find(blocks_name);
    const TensorView* scales = find(scales_name);
    const std::string plain = plain_tensor_name(module, find);
    SABREWING_CHECK(
        plain.empty(), kCorrupt,
        "[scheme] module {}: quant_method mxfp4 covers it and modules_to_not_convert does not, but the "
        "checkpoint has the unquantized tensor {}",
        printable(module), printable(plain));
    for (const auto& [tensor, tensor_name] :
         {std::pair(blocks, blocks_name), std::pair(scales, scales_name)}) {
      SABREWING_CHECK(tensor != nullptr, kNotFound, "[scheme] module {}: tensor {} is missing",
                      printable(module), printable(tensor_name));
      SABREWING_CHECK(tensor->dtype == DType::kU8, kCorrupt,
                      "[scheme] tensor {}: dtype is {}, mxfp4 needs U8", printable(tensor_name),
                      to_string(tensor->dtype));
    }
    std::vector<std::int64_t> expected = scales->shape.extents();
    SABREWING_CHECK(expected.size() >= 2, kCorrupt, "[scheme] tensor {}: shape {} is not (..., N, K/32)",
                    printable(scales_name), scales->shape.to_string());
    expected.push_back(kGroupBytes);
    SABREWING_CHECK(blocks->shape.extents() == expected, kCorrupt,
                    "[scheme] tensor {}: shape is {}, but the scales of shape {} need {}",
                    printable(blocks_name), blocks->shape.to_string(), scales->shape.to_string(),
                    Shape(expected).to_string());
    std::vector<std::int64_t> extents = scales->shape.extents();
    SABREWING_CHECK(extents.back() <= std::numeric_limits<std::int64_t>::max() / kGroup, kCorrupt,
                    "[scheme] tensor {}: shape {} is too large", printable(scales_name),
                    scales->shape.to_string());
    extents.back() *= kGroup;
    return {WeightFormat::mxfp4(), Shape(std::move(extents)), blocks_name, scales_name};
  }

 private:
  static bool is_expert(std::string_view module) {
    return module.ends_with(".mlp.experts.gate_up_proj") || module.ends_with(".mlp.experts.down_proj");
  }

  const std::string* skip_entry(std::string_view module) const {
    const auto found = std::find_if(skipped_.begin(), skipped_.end(),
                                    [&](const std::string& entry) { return covers(entry, module); });
    return found == skipped_.end() ? nullptr : &*found;
  }

  std::vector<std::string> skipped_;
};

}  // namespace

std::unique_ptr<Scheme> make_mxfp4_scheme(const Json& quantization, std::string_view model_type,
                                          std::string_view what) {
  SABREWING_CHECK(model_type == "gpt_oss", kUnsupported,
                  "[scheme] {}: quant_method mxfp4 is supported for model_type gpt_oss, not {}", what,
                  printable(model_type));
  // "dequantize" tells other programs to expand the weights while they load; the stored ones are the same.
  check_known_fields(quantization, {"quant_method", "modules_to_not_convert", "dequantize"}, what);
  std::vector<std::string> skipped;
  const auto list = quantization.find("modules_to_not_convert");
  if (list != quantization.end() && !list->is_null()) {
    SABREWING_CHECK(list->is_array(), kCorrupt,
                    "[scheme] {}: quantization_config.modules_to_not_convert is not an array", what);
    for (const Json& entry : *list) {
      SABREWING_CHECK(
          entry.is_string() && !entry.get_ref<const std::string&>().empty(), kCorrupt,
          "[scheme] {}: quantization_config.modules_to_not_convert holds something that is not a name", what);
      const auto& text = entry.get_ref<const std::string&>();
      SABREWING_CHECK(
          text.find_first_of("\\^$+?()[]{}|:") == std::string::npos, kUnsupported,
          "[scheme] {}: quantization_config.modules_to_not_convert: {} is neither a name nor a name "
          "with '*'",
          what, printable(text));
      skipped.push_back(text);
    }
  }
  return std::make_unique<Mxfp4Scheme>(std::move(skipped));
}

}  // namespace sabrewing::formats
