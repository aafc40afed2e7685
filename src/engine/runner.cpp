#include "engine/runner.h"

#include <algorithm>

#include "core/error.h"

namespace sabrewing::engine {

Runner::Runner(models::Decoder& model, KvCache& cache, const models::Decoder::Limits& limits)
    : model_(model),
      cache_(cache),
      limits_(limits),
      max_blocks_((limits.max_context + cache.block_size() - 1) / cache.block_size()) {
  model.reserve(limits);
  const std::int64_t integers = 2 * limits.max_tokens + limits.max_sequences + 1 +
                                limits.max_sequences * max_blocks_ + limits.max_logit_rows;
  arrays_ = model.backend().allocate(static_cast<std::size_t>(integers) * sizeof(std::int32_t));
}

std::span<const float> Runner::step(std::span<const StepSequence> sequences) {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> query_start{0};
  std::size_t widest = 0;
  for (const StepSequence& sequence : sequences) widest = std::max(widest, sequence.blocks.size());
  std::vector<std::int32_t> tables(sequences.size() * widest, 0);
  std::vector<std::int32_t> logit_rows;
  std::int64_t max_context = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const StepSequence& sequence = sequences[s];
    const auto count = static_cast<std::int64_t>(sequence.tokens.size());
    const std::int64_t end = sequence.first_position + count;
    SABREWING_CHECK(end <= static_cast<std::int64_t>(sequence.blocks.size()) * cache_.block_size() &&
                        static_cast<std::int64_t>(sequence.blocks.size()) <= max_blocks_,
                    kInvalidArgument, "[runner] positions up to {} do not fit {} cache blocks of {} tokens",
                    end, sequence.blocks.size(), cache_.block_size());
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int32_t token = sequence.tokens[static_cast<std::size_t>(i)];
      SABREWING_CHECK(token >= 0 && token < model_.spec().vocabulary, kInvalidArgument,
                      "[runner] token id {} is outside the vocabulary of {}", token,
                      model_.spec().vocabulary);
      if (sequence.all_logits || (sequence.last_logits && i + 1 == count))
        logit_rows.push_back(static_cast<std::int32_t>(tokens.size()));
      tokens.push_back(token);
      positions.push_back(static_cast<std::int32_t>(sequence.first_position + i));
    }
    query_start.push_back(static_cast<std::int32_t>(tokens.size()));
    std::copy(sequence.blocks.begin(), sequence.blocks.end(),
              tables.begin() + static_cast<std::int64_t>(s * widest));
    max_context = std::max(max_context, end);
  }

  // One copy brings every array of the step to the device.
  staging_.clear();
  const auto* base = static_cast<const std::int32_t*>(arrays_.data);
  const auto place = [&](const std::vector<std::int32_t>& values) {
    const std::int32_t* at = base + staging_.size();
    staging_.insert(staging_.end(), values.begin(), values.end());
    return at;
  };
  kernels::Batch batch;
  batch.tokens = static_cast<std::int64_t>(tokens.size());
  batch.sequences = static_cast<std::int64_t>(sequences.size());
  batch.token_ids = place(tokens);
  batch.positions = place(positions);
  batch.query_start = place(query_start);
  batch.block_table = place(tables);
  batch.max_blocks = static_cast<std::int64_t>(widest);
  batch.max_context = max_context;
  const std::int32_t* rows = place(logit_rows);
  SABREWING_CHECK(staging_.size() * sizeof(std::int32_t) <= arrays_.bytes, kInternal,
                  "[runner] a step of {} tokens exceeds the reserved {}", tokens.size(), limits_.max_tokens);
  kernels::Backend& backend = model_.backend();
  backend.copy_in(arrays_.data, staging_.data(), staging_.size() * sizeof(std::int32_t));

  const kernels::Matrix logits =
      model_.forward(batch, cache_.layers(), rows, static_cast<std::int64_t>(logit_rows.size()));
  logits_.resize(static_cast<std::size_t>(logits.rows * logits.cols));
  backend.copy_out(logits_.data(), logits.data, logits_.size() * sizeof(float));
  backend.synchronize();
  return logits_;
}

}  // namespace sabrewing::engine
