#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "models/architecture.h"

namespace sabrewing {
namespace {

const std::filesystem::path kSource = SABREWING_SOURCE_DIR;

class ConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "config_test_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static Json base(const std::string& name) {
    return parse_json(read_text_file(kSource / "models" / name / "config.json", 1 << 20), name);
  }
  models::DecoderSpec read_text(const std::string& text) {
    const std::filesystem::path file = folder_ / "config.json";
    std::ofstream(file) << text;
    return models::read_spec(file);
  }
  models::DecoderSpec read(const std::string& name, const std::function<void(Json&)>& change) {
    Json json = base(name);
    change(json);
    return read_text(json.dump());
  }
  /// The message with the folder removed; "accepted" when there is none.
  std::string refusal(const std::string& name, const std::function<void(Json&)>& change) {
    try {
      read(name, change);
    } catch (const Error& error) {
      std::string text = error.what();
      if (const auto at = text.find(folder_.string() + "/"); at != std::string::npos)
        text.erase(at, folder_.string().size() + 1);
      EXPECT_EQ(text.find('\n'), std::string::npos);
      return text;
    }
    return "accepted";
  }

  std::filesystem::path folder_;
};

TEST_F(ConfigTest, ReadsGptOss) {
  const models::DecoderSpec spec = read("mini-gpt-oss", [](Json&) {});
  EXPECT_EQ(spec.layers.size(), 4U);
  EXPECT_EQ(spec.layers[0].window, 64);
  EXPECT_EQ(spec.layers[1].window, 0);
  EXPECT_TRUE(spec.sinks);
  EXPECT_FLOAT_EQ(spec.rope.attention_factor, 1.3465736F);
  EXPECT_TRUE(spec.unknown_fields.empty());
}

TEST_F(ConfigTest, FullSizeConfigsAreRead) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "bench/configs")) {
    if (entry.path().extension() != ".json") continue;
    SCOPED_TRACE(entry.path().string());
    const Json json = parse_json(read_text_file(entry.path(), 1 << 20), "config");
    const auto names = models::architecture_names();
    if (std::find(names.begin(), names.end(), json["model_type"].get<std::string>()) == names.end()) continue;
    const models::DecoderSpec spec = models::read_spec(entry.path());
    EXPECT_TRUE(spec.unknown_fields.empty()) << spec.unknown_fields.front();
    ++count;
  }
  EXPECT_GE(count, 4U);
}

// The frequencies of gpt-oss as published: not truncated, between dimensions 8.0928 and 17.3980.
TEST_F(ConfigTest, YarnRampsBetweenTheCorrectionDimensions) {
  const models::Rope rope = read("mini-gpt-oss", [](Json&) {}).rope;
  ASSERT_EQ(rope.inverse_frequency.size(), 32U);
  for (const int i : {0, 8, 9, 12, 17, 18, 31}) {
    const double plain = std::pow(150000.0, -2.0 * i / 64);
    const double ramp = std::clamp((i - 8.0928) / (17.3980 - 8.0928), 0.0, 1.0);
    EXPECT_NEAR(
        rope.inverse_frequency[static_cast<std::size_t>(i)] / (plain / 32 * ramp + plain * (1 - ramp)), 1,
        1e-4)
        << i;
  }
}

TEST_F(ConfigTest, NewerRopeParametersEqualOlderFields) {
  const models::Rope older = read("mini-gpt-oss", [](Json&) {}).rope;
  const models::Rope newer = read("mini-gpt-oss", [](Json& j) {
                               j["rope_parameters"] = j["rope_scaling"];
                               j["rope_parameters"]["rope_theta"] = j["rope_theta"];
                               j.erase("rope_scaling");
                               j.erase("rope_theta");
                             }).rope;
  EXPECT_EQ(older.inverse_frequency, newer.inverse_frequency);
  EXPECT_EQ(older.attention_factor, newer.attention_factor);
}

TEST_F(ConfigTest, HonoursLayerChoices) {
  const auto sparse = [&](const std::function<void(Json&)>& change) {
    std::string text;
    for (const models::LayerSpec& layer : read("mini-qwen3-moe", change).layers)
      text += layer.sparse ? 's' : 'd';
    return text;
  };
  EXPECT_EQ(sparse([](Json&) {}), "ssss");
  EXPECT_EQ(sparse([](Json& j) { j["decoder_sparse_step"] = 2; }), "dsds");
  EXPECT_EQ(sparse([](Json& j) { j["mlp_only_layers"] = {0, 3}; }), "dssd");
  EXPECT_EQ(read("mini-qwen3-moe", [](Json& j) { j["use_sliding_window"] = true, j["sliding_window"] = 9; })
                .layers[2]
                .window,
            9);
  const auto qwen = read("mini-qwen3", [](Json& j) {
    j.erase("layer_types");
    j["use_sliding_window"] = true, j["sliding_window"] = 7, j["max_window_layers"] = 3;
  });
  EXPECT_EQ(qwen.layers[2].window, 0);
  EXPECT_EQ(qwen.layers[3].window, 7);
}

TEST_F(ConfigTest, RefusesByFileAndField) {
  const char* qwen = "mini-qwen3";
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["num_attention_heads"] = 0; }),
            "[config] config.json: field \"num_attention_heads\" is 0, expected 1 to 4096");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["num_attention_heads"] = 4, j["num_key_value_heads"] = 3; }),
            "[config] config.json: field \"num_key_value_heads\" is 3, which does not divide "
            "num_attention_heads 4");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["num_hidden_layers"] = std::int64_t{1} << 40; }),
            "[config] config.json: field \"num_hidden_layers\" is 1099511627776, expected 1 to 1024");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["hidden_size"] = 18446744073709551615ULL; }),
            "[config] config.json: field \"hidden_size\" is 18446744073709551615, expected 1 to 1048576");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j.erase("hidden_size"); }),
            "[config] config.json: field \"hidden_size\" is missing");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["hidden_size"] = "many"; }),
            "[config] config.json: field \"hidden_size\" is \"many\", expected an integer");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["hidden_act"] = "gelu"; }),
            "[config] config.json: field \"hidden_act\" is \"gelu\"; only \"silu\" is supported for this "
            "architecture");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["head_dim"] = 65; }),
            "[config] config.json: field \"head_dim\" is 65, expected an even number");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["layer_types"] = {"full_attention"}; }),
            "[config] config.json: field \"layer_types\" has 1 entries for 4 layers");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["layer_types"][1] = "linear_attention"; }),
            "[config] config.json: field \"layer_types\" holds \"linear_attention\"; supported: "
            "full_attention, sliding_attention");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["rope_scaling"] = {{"rope_type", "longrope"}, {"factor", 2.0}}; }),
            "[config] config.json: rope_scaling type \"longrope\" is not supported; supported: default, "
            "linear, yarn");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["rope_scaling"] = {{"rope_type", "linear"}}; }),
            "[config] config.json: rope_scaling: field \"factor\" is missing");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["partial_rotary_factor"] = 0.5; }),
            "[config] config.json: field \"partial_rotary_factor\" is 0.5; only 1.0 is supported for this "
            "architecture");
  EXPECT_EQ(
      refusal(qwen, [](Json& j) { j["model_type"] = "mamba"; }),
      "[config] config.json: model_type \"mamba\" is not supported; supported: gpt_oss, qwen3, qwen3_moe");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["model_type"] = "a\nb"; }),
            "[config] config.json: model_type \"a\\x0ab\" is not supported; supported: gpt_oss, qwen3, "
            "qwen3_moe");
  EXPECT_EQ(refusal(qwen, [](Json& j) { j["eos_token_id"] = std::vector<int>(65537, 1); }),
            "[config] config.json: field \"eos_token_id\" has 65537 entries, at most 65536 expected");
  EXPECT_EQ(refusal("mini-gpt-oss", [](Json& j) { j["num_experts_per_tok"] = 9; }),
            "[config] config.json: field \"num_experts_per_tok\" is 9, expected 1 to 8");
  EXPECT_EQ(refusal("mini-gpt-oss", [](Json& j) { j["swiglu_limit"] = -1.0; }),
            "[config] config.json: field \"swiglu_limit\" is -1.0, expected 0.001 to 1000000");
  EXPECT_NE(
      refusal(qwen, [](Json& j) { j["quantization_config"] = {{"quant_method", "exl9"}}; }).find("exl9"),
      std::string::npos);
}

TEST_F(ConfigTest, RefusesHostileText) {
  EXPECT_THROW(read_text(std::string(100000, '[')), Error);
  EXPECT_THROW(read_text("[]"), Error);
  EXPECT_THROW(read_text(""), Error);
  EXPECT_THROW(read_text("{\"model_type\": \"qwen3\", \"model_type\": \"qwen3\"}"), Error);
  EXPECT_THROW(models::read_spec(folder_ / "absent.json"), Error);
  EXPECT_THROW(models::read_spec(folder_), Error);
}

}  // namespace
}  // namespace sabrewing
