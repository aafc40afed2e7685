#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
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

/// For 60 tokens and a split at 23: one row, any order, one twice, of either sequence alone.
inline const std::vector<std::vector<std::int32_t>> kSomeRows = {
    {36}, {96, 36}, {50, 0, 96, 36, 37, 12, 50}, {7, 9, 8}, {80, 60}};

/// Logits of some rows of one step: the prompt behind its first `split` tokens, which another step without
/// logits put into the cache, and as a second sequence the whole prompt. (rows, vocabulary) in their order.
inline std::vector<float> golden_logits_of_rows(kernels::Backend& backend, kernels::Accuracy accuracy,
                                                const std::string& name, std::span<const std::int32_t> prompt,
                                                std::int64_t split, const std::vector<std::int32_t>& rows) {
  models::Decoder model(models::read_spec(golden_folder(name) / "config.json"), backend, accuracy);
  models::CheckpointSource source(golden_folder(name));
  model.load(source, {});
  const auto tokens = static_cast<std::int64_t>(prompt.size());
  constexpr std::int64_t kBlockSize = 16;
  const std::int64_t max_blocks = (tokens + kBlockSize - 1) / kBlockSize;
  engine::KvCache cache(model, kBlockSize, 2 * max_blocks);
  model.reserve({2 * tokens, 2, tokens, static_cast<std::int64_t>(rows.size())});
  std::vector<std::int32_t> blocks;
  std::vector<std::int32_t> second;
  SABREWING_CHECK(cache.extend(blocks, tokens) && cache.extend(second, tokens), kInternal,
                  "no blocks for twice {} tokens", tokens);
  blocks.insert(blocks.end(), second.begin(), second.end());

  std::vector<kernels::DeviceBuffer> arrays;
  const auto place = [&](const std::vector<std::int32_t>& values) {
    const std::size_t bytes = values.size() * sizeof(std::int32_t);
    arrays.push_back(backend.allocate(bytes));
    backend.copy_in(arrays.back().data, values.data(), bytes);
    backend.synchronize();
    return static_cast<const std::int32_t*>(arrays.back().data);
  };
  const auto step = [&](const std::vector<std::int64_t>& first, const std::vector<std::int64_t>& end,
                        const std::vector<std::int32_t>& logit_rows) {
    std::vector<std::int32_t> ids;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> query_start{0};
    for (std::size_t i = 0; i < first.size(); ++i) {
      for (std::int64_t at = first[i]; at < end[i]; ++at) {
        ids.push_back(prompt[static_cast<std::size_t>(at)]);
        positions.push_back(static_cast<std::int32_t>(at));
      }
      query_start.push_back(static_cast<std::int32_t>(ids.size()));
    }
    kernels::Batch batch;
    batch.tokens = static_cast<std::int64_t>(ids.size());
    batch.sequences = static_cast<std::int64_t>(first.size());
    batch.token_ids = place(ids);
    batch.positions = place(positions);
    batch.query_start = place(query_start);
    batch.block_table = place(blocks);
    batch.max_blocks = max_blocks;
    batch.max_context = *std::max_element(end.begin(), end.end());
    const auto count = static_cast<std::int64_t>(logit_rows.size());
    return model.forward(batch, cache.layers(), logit_rows.empty() ? nullptr : place(logit_rows), count);
  };
  step({0}, {split}, {});
  const kernels::Matrix result = step({split, 0}, {tokens, tokens}, rows);
  std::vector<float> logits(static_cast<std::size_t>(result.rows * result.cols));
  backend.copy_out(logits.data(), result.data, logits.size() * sizeof(float));
  backend.synchronize();
  return logits;
}

/// Whether these are the rows of `all`, (tokens, vocabulary), bit for bit.
inline bool are_rows_of(std::span<const float> logits, std::span<const float> all, std::size_t tokens,
                        std::size_t split, const std::vector<std::int32_t>& rows) {
  const std::size_t vocabulary = all.size() / tokens;
  if (logits.size() != rows.size() * vocabulary) return false;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t row = static_cast<std::size_t>(rows[i]) + split;
    const std::size_t position = row < tokens ? row : row - tokens;
    if (std::memcmp(&logits[i * vocabulary], &all[position * vocabulary], vocabulary * sizeof(float)) != 0)
      return false;
  }
  return true;
}

}  // namespace sabrewing
