#include "engine/generator.h"

#include <algorithm>
#include <chrono>

#include "core/clock.h"
#include "core/error.h"
#include "engine/stop.h"
#include "text/detokenizer.h"

namespace sabrewing::engine {

std::int64_t Generator::context_tokens(const LoadedModel& model, const GeneratorOptions& options) {
  const std::int64_t longest = model.decoder->spec().max_positions;
  if (options.max_context == 0) return std::min(longest, kDefaultContext);
  SABREWING_CHECK(options.max_context <= longest, kInvalidArgument,
                  "[model] a context of {} exceeds the model's max_position_embeddings {}",
                  options.max_context, longest);
  return options.max_context;
}

models::Decoder::Limits Generator::make_limits(const LoadedModel& model, const GeneratorOptions& options) {
  models::Decoder::Limits limits;
  limits.max_context = context_tokens(model, options);
  limits.max_tokens = std::min(options.prefill_chunk, limits.max_context);
  limits.max_sequences = 1;
  limits.max_logit_rows = 1;
  return limits;
}

MemoryPlan Generator::plan_memory(const LoadedModel& model, const GeneratorOptions& options) {
  const std::int64_t context = context_tokens(model, options);
  MemoryPlan plan;
  plan.weights = model.decoder->planned_weight_bytes();
  plan.cache = KvCache::bytes(*model.decoder, options.block_size,
                              (context + options.block_size - 1) / options.block_size);
  plan.workspace = model.decoder->workspace_bytes(make_limits(model, options));
  plan.staging = std::min(plan.weights, kernels::kStagingBytes);
  return plan;
}

Generator::Generator(LoadedModel& model, const GeneratorOptions& options)
    : model_(model),
      limits_(make_limits(model, options)),
      cache_(*model.decoder, options.block_size,
             (limits_.max_context + options.block_size - 1) / options.block_size),
      runner_(*model.decoder, cache_, limits_) {}

void Generator::check_prompt(const LoadedModel& model, const GeneratorOptions& options,
                             std::span<const std::int32_t> prompt) {
  const std::int64_t context = context_tokens(model, options);
  SABREWING_CHECK(!prompt.empty(), kInvalidArgument, "[generate] the prompt is empty");
  SABREWING_CHECK(static_cast<std::int64_t>(prompt.size()) < context, kInvalidArgument,
                  "[generate] the prompt has {} tokens, the context holds {} with the answer", prompt.size(),
                  context);
  const std::int64_t vocabulary = model.decoder->spec().vocabulary;
  for (const std::int32_t id : prompt)
    SABREWING_CHECK(id >= 0 && id < vocabulary, kInvalidArgument,
                    "[generate] token id {} is outside the vocabulary of {}", id, vocabulary);
}

std::span<const float> Generator::feed(std::span<const std::int32_t> ids) {
  const auto end = static_cast<std::int64_t>(cached_.size() + ids.size());
  SABREWING_CHECK(cache_.extend(blocks_, end), kInternal, "[generate] {} tokens exceed the cache", end);
  std::span<const float> logits;
  while (!ids.empty()) {
    const std::size_t count = std::min(ids.size(), static_cast<std::size_t>(limits_.max_tokens));
    StepSequence step;
    step.tokens = ids.first(count);
    step.first_position = static_cast<std::int64_t>(cached_.size());
    step.blocks = blocks_;
    step.last_logits = count == ids.size();
    logits = runner_.step({&step, 1});
    cached_.insert(cached_.end(), step.tokens.begin(), step.tokens.end());
    ids = ids.subspan(count);
  }
  return logits;
}

Generation Generator::generate(std::span<const std::int32_t> prompt, const SamplingParams& params,
                               const TokenCallback& on_token, bool skip_special_tokens) {
  check_prompt(model_, {limits_.max_context, cache_.block_size(), limits_.max_tokens}, prompt);
  Sampler sampler(params, model_.decoder->spec().vocabulary, model_.eos_ids);
  sampler.add_prompt(prompt);
  StopChecker stop(params.stop);
  std::optional<text::Detokenizer> detokenizer;
  if (model_.tokenizer != nullptr) detokenizer.emplace(*model_.tokenizer, skip_special_tokens);

  Generation result;
  result.prompt_tokens = static_cast<std::int64_t>(prompt.size());
  // The last prompt token always runs, for its logits.
  const auto mismatch = std::mismatch(cached_.begin(), cached_.end(), prompt.begin(), prompt.end() - 1).first;
  cached_.erase(mismatch, cached_.end());
  result.cached_tokens = static_cast<std::int64_t>(cached_.size());

  const auto prefill_start = std::chrono::steady_clock::now();
  std::span<const float> logits = feed(prompt.subspan(cached_.size()));
  result.prefill_seconds = seconds_since(prefill_start);

  const auto decode_start = std::chrono::steady_clock::now();
  const std::int64_t room = limits_.max_context - result.prompt_tokens;
  const std::int64_t limit = std::min(room, params.max_tokens);
  while (static_cast<std::int64_t>(result.ids.size()) < limit) {
    const SampledToken token = sampler.sample(logits);
    result.ids.push_back(token.id);
    if (params.logprobs.has_value()) result.logprobs.push_back(token.logprobs);
    const bool listed = std::find(params.stop_token_ids.begin(), params.stop_token_ids.end(), token.id) !=
                        params.stop_token_ids.end();
    const bool ended = listed || (!params.ignore_eos && model_.is_eos(token.id));
    std::string piece;
    if (detokenizer && !ended && model_.tokenizer->has_token(token.id))
      piece = stop.push(detokenizer->push(token.id));
    result.text += piece;
    const bool go_on = !on_token || on_token({token.id, piece});
    if (ended || stop.stopped()) {
      result.finish = FinishReason::kStop;
      break;
    }
    if (!go_on) {
      result.finish = FinishReason::kAborted;
      break;
    }
    if (static_cast<std::int64_t>(result.ids.size()) < limit) logits = feed({&result.ids.back(), 1});
  }
  if (detokenizer && !stop.stopped()) {
    std::string rest = stop.push(detokenizer->flush());
    rest += stop.flush();
    result.text += rest;
    if (!rest.empty() && on_token) on_token({result.ids.back(), rest});
  }
  result.decode_seconds = seconds_since(decode_start);
  return result;
}

}  // namespace sabrewing::engine
