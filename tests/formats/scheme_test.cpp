#include "formats/scheme/scheme.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "core/json.h"
#include "tests/formats/checkpoint_files.h"

namespace sabrewing::formats {
namespace {

constexpr const char* kGptOss = R"({"model_type":"gpt_oss","quantization_config":{"quant_method":"mxfp4",
  "modules_to_not_convert":["model.layers.*.self_attn","model.layers.*.mlp.router","model.embed_tokens","lm_head"]}})";
constexpr const char* kGateUp = "model.layers.7.mlp.experts.gate_up_proj";

std::unique_ptr<Scheme> scheme_of(const std::string& config) {
  return parse_scheme(parse_json(config, "c.json"), "c.json");
}

std::string with_skip_list(const std::string& list) {
  return R"({"model_type":"gpt_oss","quantization_config":{"quant_method":"mxfp4","modules_to_not_convert":)" +
         list + "}}";
}

/// Tensors without data.
class Tensors {
 public:
  Tensors& add(const std::string& name, DType dtype, Shape shape) {
    views_[name] = TensorView{dtype, std::move(shape), {}};
    return *this;
  }
  TensorFinder finder() const {
    return [this](std::string_view name) -> const TensorView* {
      const auto found = views_.find(name);
      return found == views_.end() ? nullptr : &found->second;
    };
  }

 private:
  std::map<std::string, TensorView, std::less<>> views_;
};

Tensors quantized_experts() {
  Tensors tensors;
  tensors.add(std::string(kGateUp) + "_blocks", DType::kU8, {8, 384, 6, 16});
  tensors.add(std::string(kGateUp) + "_scales", DType::kU8, {8, 384, 6});
  return tensors;
}

TEST(Scheme, Unquantized) {
  for (const char* config : {"{}", R"({"quantization_config":null})", R"({"text_config":{}})"}) {
    const auto scheme = scheme_of(config);
    EXPECT_EQ(scheme->name(), "none");
    EXPECT_EQ(scheme->configured("lm_head"), std::nullopt);
  }
  const auto scheme = scheme_of("{}");
  Tensors tensors;
  tensors.add("a.weight", DType::kBF16, {4, 8})
      .add("b.weight", DType::kF16, {4, 8})
      .add("c", DType::kF32, {2, 4, 8});
  tensors.add("d.weight", DType::kF8E4M3, {4, 8}).add("e_blocks", DType::kU8, {4, 1, 16});
  const auto find = tensors.finder();
  const StoredWeight a = scheme->locate("a", find);
  EXPECT_EQ(a.format, WeightFormat::bf16());
  EXPECT_EQ(a.shape, (Shape{4, 8}));
  EXPECT_EQ(a.data, "a.weight");
  EXPECT_EQ(a.scale, "");
  EXPECT_EQ(scheme->format_of("b", find), WeightFormat::fp16());
  EXPECT_EQ(scheme->locate("c", find).data, "c");
  expect_error(
      ErrorCode::kCorrupt,
      "module \"d\": config.json has no quantization_config, but tensor \"d.weight\" has dtype F8_E4M3",
      [&] { scheme->locate("d", find); });
  expect_error(ErrorCode::kCorrupt, "the quantized tensor \"e_blocks\"", [&] { scheme->locate("e", find); });
  expect_error(ErrorCode::kNotFound, "tensor \"f.weight\" is missing", [&] { scheme->locate("f", find); });
}

TEST(Scheme, Mxfp4QuantizesTheExperts) {
  const auto scheme = scheme_of(kGptOss);
  EXPECT_EQ(scheme->name(), "mxfp4");
  EXPECT_EQ(scheme->configured(kGateUp), WeightFormat::mxfp4());
  EXPECT_EQ(scheme->configured("model.layers.12.mlp.experts.down_proj"), WeightFormat::mxfp4());
  for (const char* module :
       {"lm_head", "model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.router"})
    EXPECT_EQ(scheme->configured(module), std::nullopt) << module;

  Tensors tensors = quantized_experts();
  tensors.add("lm_head.weight", DType::kBF16, {1024, 192});
  const auto find = tensors.finder();
  const StoredWeight experts = scheme->locate(kGateUp, find);
  EXPECT_EQ(experts.format, WeightFormat::mxfp4());
  EXPECT_EQ(experts.shape, (Shape{8, 384, 192}));
  EXPECT_EQ(experts.data, std::string(kGateUp) + "_blocks");
  EXPECT_EQ(experts.scale, std::string(kGateUp) + "_scales");
  EXPECT_EQ(scheme->format_of("lm_head", find), WeightFormat::bf16());
}

TEST(Scheme, Mxfp4SkipListMatchesWholeComponents) {
  const auto skipped = [](const std::string& entry, const char* module = kGateUp) {
    return !scheme_of(with_skip_list("[\"" + entry + "\"]"))->configured(module);
  };
  for (const char* entry :
       {"model.layers.7", "model.layers.7.mlp.experts", "model.layers.*.mlp", "*.gate_up_proj",
        "experts.gate_up_proj", "gate_up_proj", "model", "model.layers.7.mlp.experts.gate_up_proj"})
    EXPECT_TRUE(skipped(entry)) << entry;
  for (const char* entry :
       {"layers.7", "model.layers.77", "mlp", "up_proj", "mod", "experts", "model.layers.*.self_attn"})
    EXPECT_FALSE(skipped(entry)) << entry;
  EXPECT_FALSE(skipped("model.layers.7", "model.layers.77.mlp.experts.gate_up_proj"));
  EXPECT_TRUE(scheme_of(with_skip_list("null"))->configured(kGateUp));
}

TEST(Scheme, Mxfp4TensorsThatContradictTheConfig) {
  const auto scheme = scheme_of(kGptOss);
  const std::string name = kGateUp;
  {
    const Tensors tensors = quantized_experts();
    expect_error(
        ErrorCode::kCorrupt,
        "module \"" + name +
            "\": modules_to_not_convert has \"model.layers.7\", but the checkpoint has the quantized tensor",
        [&] { scheme_of(with_skip_list("[\"model.layers.7\"]"))->locate(kGateUp, tensors.finder()); });
  }
  {
    Tensors tensors;
    tensors.add(name, DType::kBF16, {8, 192, 384});
    expect_error(ErrorCode::kCorrupt, "but the checkpoint has the unquantized tensor \"" + name + "\"",
                 [&] { scheme->locate(kGateUp, tensors.finder()); });
  }
  {
    Tensors tensors = quantized_experts();
    tensors.add(name + ".weight", DType::kBF16, {8, 192, 384});
    expect_error(ErrorCode::kCorrupt, "the unquantized tensor \"" + name + ".weight\"",
                 [&] { scheme->locate(kGateUp, tensors.finder()); });
  }
  {
    Tensors tensors;
    tensors.add("model.layers.0.mlp.up_proj_blocks", DType::kU8, {8, 1, 16});
    expect_error(ErrorCode::kCorrupt,
                 "quant_method mxfp4 quantizes experts only, but the checkpoint has the quantized tensor",
                 [&] { scheme->locate("model.layers.0.mlp.up_proj", tensors.finder()); });
  }
}

TEST(Scheme, Mxfp4TensorsThatContradictEachOther) {
  const auto scheme = scheme_of(kGptOss);
  const std::string name = kGateUp;
  const auto refuse = [&](ErrorCode code, const std::string& text, const Tensors& tensors) {
    expect_error(code, text, [&] { scheme->locate(kGateUp, tensors.finder()); });
  };
  refuse(ErrorCode::kNotFound, name + "_blocks\" is missing", Tensors());
  refuse(ErrorCode::kNotFound, name + "_scales\" is missing",
         Tensors().add(name + "_blocks", DType::kU8, {8, 384, 6, 16}));
  refuse(ErrorCode::kCorrupt, "dtype is I8",
         quantized_experts().add(name + "_blocks", DType::kI8, {8, 384, 6, 16}));
  refuse(ErrorCode::kCorrupt,
         "shape is [8, 384, 5, 16], but the scales of shape [8, 384, 6] need [8, 384, 6, 16]",
         quantized_experts().add(name + "_blocks", DType::kU8, {8, 384, 5, 16}));
  refuse(ErrorCode::kCorrupt, "need [8, 384, 6, 16]",
         quantized_experts().add(name + "_blocks", DType::kU8, {8, 384, 96}));
  refuse(ErrorCode::kCorrupt, "is not (..., N, K/32)",
         quantized_experts().add(name + "_scales", DType::kU8, {8}));
}

TEST(Scheme, RefusesByName) {
  const auto refuse = [](ErrorCode code, const std::string& text, const std::string& config) {
    expect_error(code, text, [&] { scheme_of(config); });
    expect_error(code, "c.json", [&] { scheme_of(config); });
  };
  for (const char* method :
       {"gptq", "awq", "fp8", "compressed-tensors", "modelopt", "bitsandbytes", "re:mxfp4"})
    refuse(ErrorCode::kUnsupported,
           std::string("quant_method \"") + method + "\" is not supported; supported are mxfp4",
           std::string(R"({"quantization_config":{"quant_method":")") + method + "\"}}");
  refuse(ErrorCode::kUnsupported, "\"awq\" is not supported",
         R"({"text_config":{"quantization_config":{"quant_method":"awq"}}})");
  refuse(ErrorCode::kUnsupported, "compression_config", R"({"compression_config":{}})");
  refuse(
      ErrorCode::kCorrupt, "quantization_config and text_config.quantization_config differ",
      R"({"quantization_config":{"quant_method":"awq"},"text_config":{"quantization_config":{"quant_method":"fp8"}}})");
  refuse(ErrorCode::kCorrupt, "is not an object", R"([])");
  refuse(ErrorCode::kCorrupt, "quantization_config is not an object", R"({"quantization_config":"mxfp4"})");
  refuse(ErrorCode::kCorrupt, "quant_method is missing", R"({"quantization_config":{}})");
  refuse(ErrorCode::kCorrupt, "quant_method is not a string",
         R"({"quantization_config":{"quant_method":4}})");
  refuse(ErrorCode::kUnsupported, "supported for model_type gpt_oss, not \"qwen3\"",
         R"({"model_type":"qwen3","quantization_config":{"quant_method":"mxfp4"}})");
  refuse(ErrorCode::kUnsupported, "quantization_config.\"group_size\" is not supported",
         R"({"model_type":"gpt_oss","quantization_config":{"quant_method":"mxfp4","group_size":64}})");
  refuse(ErrorCode::kCorrupt, "modules_to_not_convert is not an array", with_skip_list("\"lm_head\""));
  refuse(ErrorCode::kCorrupt, "not a name", with_skip_list("[3]"));
  refuse(ErrorCode::kCorrupt, "not a name", with_skip_list("[\"\"]"));
  refuse(ErrorCode::kUnsupported, "\"re:.*mlp\" is neither", with_skip_list("[\"re:.*mlp\"]"));
}

TEST(Scheme, RefusesSeparateConfigurationFiles) {
  const TemporaryFolder folder;
  const Json none = parse_json("{}", "config.json");
  EXPECT_EQ(load_scheme(folder.path(), none)->name(), "none");
  folder.write("quantize_config.json", "{}");
  expect_error(ErrorCode::kUnsupported, "quantize_config.json", [&] { load_scheme(folder.path(), none); });
  EXPECT_EQ(load_scheme(folder.path(), parse_json(kGptOss, "config.json"))->name(), "mxfp4");
}

}  // namespace
}  // namespace sabrewing::formats
