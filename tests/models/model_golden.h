#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/mapped_file.h"
#include "engine/runner.h"
#include "kernels/backend.h"
#include "models/architecture.h"
#include "models/checkpoint_source.h"
#include "models/decoder.h"

/// The checkpoints of tests/data/models (long contexts, odd shapes) with the logits of transformers in FP32;
/// scripts/make_model_goldens.py makes them.
namespace sabrewing {

inline std::filesystem::path golden_folder(const std::string& name) {
  return std::filesystem::path(SABREWING_SOURCE_DIR) / "tests/data/models" / name;
}

inline std::vector<std::string> golden_names() {
  std::vector<std::string> all;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder("")))
    all.push_back(entry.path().filename());
  std::sort(all.begin(), all.end());
  return all;
}

/// As the name of a test.
inline std::string golden_test_name(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

struct ModelGolden {
  std::vector<std::int32_t> prompt;
  std::vector<std::size_t> positions;
  std::vector<std::vector<float>> logits;  ///< at these positions

  static ModelGolden read(const std::string& name) {
    const Json json =
        parse_json(read_text_file(golden_folder(name) / "golden.json", std::size_t{16} << 20), name);
    return {json["prompt_ids"], json["positions"], json["logits"]};
  }

  /// Of `all`, (tokens, vocabulary); infinite for another size and for NaN.
  float largest_difference(std::span<const float> all) const {
    const std::size_t vocabulary = logits.front().size();
    if (all.size() != prompt.size() * vocabulary) return INFINITY;
    float largest = 0;
    for (std::size_t p = 0; p < positions.size(); ++p)
      for (std::size_t v = 0; v < vocabulary; ++v) {
        const float difference = std::abs(all[positions[p] * vocabulary + v] - logits[p][v]);
        largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
      }
    return largest;
  }
};

/// Logits after every token of the prompt, (tokens, vocabulary), fed in chunks.
inline std::vector<float> golden_logits(kernels::Backend& backend, kernels::Accuracy accuracy,
                                        const std::string& name, std::span<const std::int32_t> prompt,
                                        std::int64_t chunk, std::int64_t block_size) {
  models::Decoder model(models::read_spec(golden_folder(name) / "config.json"), backend, accuracy);
  models::CheckpointSource source(golden_folder(name));
  model.load(source, {});
  const auto tokens = static_cast<std::int64_t>(prompt.size());
  engine::KvCache cache(model, block_size, (tokens + block_size - 1) / block_size);
  engine::Runner runner(model, cache, {chunk, 1, tokens, chunk});
  std::vector<std::int32_t> blocks;
  SABREWING_CHECK(cache.extend(blocks, tokens), kInternal, "no blocks for {} tokens", tokens);
  std::vector<float> logits;
  for (std::int64_t at = 0; at < tokens; at += chunk) {
    engine::StepSequence step;
    step.tokens =
        prompt.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(std::min(chunk, tokens - at)));
    step.first_position = at;
    step.blocks = blocks;
    step.all_logits = true;
    const std::span<const float> rows = runner.step({&step, 1});
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  return logits;
}

}  // namespace sabrewing
