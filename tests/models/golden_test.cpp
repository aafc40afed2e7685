// Long contexts and odd shapes against transformers in FP32: scripts/make_model_goldens.py makes the data.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/json.h"
#include "core/mapped_file.h"
#include "engine/runner.h"
#include "kernels/cpu/cpu_backend.h"
#include "models/architecture.h"
#include "models/checkpoint_source.h"
#include "models/decoder.h"

namespace sabrewing {
namespace {

const std::filesystem::path kRoot = std::filesystem::path(SABREWING_SOURCE_DIR) / "tests/data/models";

struct Setting {
  kernels::Accuracy accuracy = kernels::Accuracy::kExact;
  int threads = 2;
  std::int64_t chunk = 512;
  std::int64_t block_size = 16;
  std::string tier;
};

/// Logits after every token of the prompt, (tokens, vocabulary).
std::vector<float> run(const std::filesystem::path& folder, const std::vector<std::int32_t>& prompt,
                       const Setting& setting) {
  models::DecoderSpec spec = models::read_spec(folder / "config.json");
  const auto backend = kernels::cpu::make_cpu_backend({setting.threads, setting.tier});
  models::Decoder model(std::move(spec), *backend, setting.accuracy);
  models::CheckpointSource source(folder);
  model.load(source, {});
  const auto tokens = static_cast<std::int64_t>(prompt.size());
  engine::KvCache cache(model, setting.block_size, (tokens + setting.block_size - 1) / setting.block_size);
  engine::Runner runner(model, cache, {setting.chunk, 1, tokens, setting.chunk});
  std::vector<std::int32_t> blocks;
  EXPECT_TRUE(cache.extend(blocks, tokens));
  std::vector<float> logits;
  for (std::int64_t at = 0; at < tokens; at += setting.chunk) {
    engine::StepSequence step;
    step.tokens = std::span(prompt).subspan(static_cast<std::size_t>(at),
                                            static_cast<std::size_t>(std::min(setting.chunk, tokens - at)));
    step.first_position = at;
    step.blocks = blocks;
    step.all_logits = true;
    const std::span<const float> rows = runner.step({&step, 1});
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  return logits;
}

struct Golden {
  std::vector<std::int32_t> prompt;
  std::vector<std::size_t> positions;
  std::vector<std::vector<float>> logits;
};

Golden read_golden(const std::string& name) {
  const Json json = parse_json(read_text_file(kRoot / name / "golden.json", std::size_t{16} << 20), name);
  return {json["prompt_ids"], json["positions"], json["logits"]};
}

class ModelGolden : public testing::TestWithParam<std::string> {};

TEST_P(ModelGolden, ExactWithinBound) {
  const Golden golden = read_golden(GetParam());
  const std::vector<float> logits = run(kRoot / GetParam(), golden.prompt, {});
  const std::size_t vocabulary = golden.logits.front().size();
  ASSERT_EQ(logits.size(), golden.prompt.size() * vocabulary);
  float largest = 0;
  for (std::size_t p = 0; p < golden.positions.size(); ++p)
    for (std::size_t v = 0; v < vocabulary; ++v) {
      const float difference = std::abs(logits[golden.positions[p] * vocabulary + v] - golden.logits[p][v]);
      ASSERT_LE(difference, 2e-3F) << "position " << golden.positions[p] << " token " << v;
      largest = std::max(largest, difference);
    }
  std::printf("%s: %zu tokens, largest logit difference %.2e\n", GetParam().c_str(), golden.prompt.size(),
              largest);
}

TEST_P(ModelGolden, ExactIsBitwiseIndependentOfTheSchedule) {
  Golden golden = read_golden(GetParam());
  golden.prompt.resize(std::min<std::size_t>(golden.prompt.size(), 300));
  const std::filesystem::path folder = kRoot / GetParam();
  const std::vector<float> expected = run(folder, golden.prompt, {});
  Setting setting;
  for (const std::int64_t chunk : {1, 7, 64, 300}) {
    for (const std::int64_t block_size : {1, 16, 37}) {
      for (const int threads : {1, 2}) {
        setting.chunk = chunk;
        setting.block_size = block_size;
        setting.threads = threads;
        EXPECT_EQ(expected, run(folder, golden.prompt, setting))
            << "chunk " << chunk << ", block size " << block_size << ", threads " << threads;
      }
    }
  }
  EXPECT_EQ(expected, run(folder, golden.prompt, {})) << "repeated";
}

TEST_P(ModelGolden, TiersAgree) {
  Golden golden = read_golden(GetParam());
  golden.prompt.resize(std::min<std::size_t>(golden.prompt.size(), 200));
  Setting setting;
  setting.tier = "scalar";
  const std::vector<float> scalar = run(kRoot / GetParam(), golden.prompt, setting);
  setting.tier.clear();
  const std::vector<float> best = run(kRoot / GetParam(), golden.prompt, setting);
  ASSERT_EQ(scalar.size(), best.size());
  for (std::size_t i = 0; i < scalar.size(); ++i) ASSERT_NEAR(scalar[i], best[i], 2e-3F) << i;
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& entry : std::filesystem::directory_iterator(kRoot)) all.push_back(entry.path().filename());
  std::sort(all.begin(), all.end());
  return all;
}

INSTANTIATE_TEST_SUITE_P(Data, ModelGolden, testing::ValuesIn(names()), [](const auto& param) {
  std::string name = param.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace sabrewing
