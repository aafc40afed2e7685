#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>

#include "core/log.h"
#include "core/thread_pool.h"
#include "engine/kv_cache.h"
#include "engine/runner.h"
#include "engine/scheduler.h"
#include "engine/stop.h"
#include "text/detokenizer.h"

namespace sabrewing::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kPromptLogitRows = 64;
constexpr int kMostSamplingThreads = 4;
/// Logits of a step from which waking other threads costs less than it saves.
constexpr std::int64_t kParallelLogits = std::int64_t{1} << 18;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// The sizes that options and model give.
struct EnginePlan {
  std::int64_t blocks = 0;
  models::Decoder::Limits limits;
};

EnginePlan make_plan(const models::Decoder& decoder, const EngineOptions& options) {
  const std::int64_t longest = decoder.spec().max_positions;
  const auto block_bytes = static_cast<std::int64_t>(KvCache::bytes(decoder, options.block_size, 1));
  SABREWING_CHECK(options.block_size >= 1 && options.kv_blocks >= 0 && options.max_num_seqs >= 1,
                  kInvalidArgument, "[engine] block_size is {}, kv_blocks {}, max_num_seqs {}",
                  options.block_size, options.kv_blocks, options.max_num_seqs);
  EnginePlan plan;
  plan.blocks =
      options.kv_blocks > 0 ? options.kv_blocks : static_cast<std::int64_t>(options.kv_bytes) / block_bytes;
  SABREWING_CHECK(plan.blocks >= 1, kInvalidArgument, "[engine] {} bytes of cache hold no block of {} bytes",
                  options.kv_bytes, block_bytes);
  const std::int64_t capacity = plan.blocks * options.block_size;
  SABREWING_CHECK(options.max_context >= 0 && options.max_context <= longest, kInvalidArgument,
                  "[engine] a context of {} exceeds the model's max_position_embeddings {}",
                  options.max_context, longest);
  SABREWING_CHECK(options.max_context <= capacity, kInvalidArgument,
                  "[engine] a context of {} tokens exceeds the cache, which holds {}", options.max_context,
                  capacity);
  plan.limits.max_context =
      options.max_context > 0 ? options.max_context : std::min({longest, capacity, kDefaultContext});
  // More blocks than all requests of a step can fill are of no use to them.
  if (options.kv_blocks == 0) {
    const std::int64_t per_request = (plan.limits.max_context + options.block_size - 1) / options.block_size;
    plan.blocks = std::min(plan.blocks, per_request * options.max_num_seqs);
  }
  plan.limits.max_tokens = options.max_num_batched_tokens;
  plan.limits.max_sequences = options.max_num_seqs;
  plan.limits.max_logit_rows = options.max_num_seqs + kPromptLogitRows;
  return plan;
}

/// A request between submission and its last update.
struct Active {
  Active(Sampler its_sampler, StopChecker its_stop)
      : sampler(std::move(its_sampler)), stop(std::move(its_stop)) {}

  Sampler sampler;
  StopChecker stop;
  RequestId id = 0;
  Request request;
  RequestSink sink;
  std::optional<text::Detokenizer> detokenizer;
  std::int64_t limit = 0;  ///< tokens of the answer
  std::vector<std::uint32_t> allowed;
  std::int64_t generated = 0;
  std::int64_t cached_tokens = 0;
  std::int64_t scored = 0;  ///< position of the last prompt token whose log-probabilities were computed
  Clock::time_point submitted;
  std::optional<Clock::time_point> started;
  std::optional<Clock::time_point> first_token;
  Clock::time_point last_token;
  RequestUpdate update;
};

}  // namespace

struct Engine::Impl {
  Impl(EngineModel loaded, const EngineOptions& engine_options, const EnginePlan& plan)
      : model(std::move(loaded)),
        options(engine_options),
        limits(plan.limits),
        cache(*model.decoder, options.block_size, plan.blocks),
        runner(*model.decoder, cache, limits),
        scheduler({options.max_num_seqs, options.max_num_batched_tokens, options.max_chunk_tokens,
                   kPromptLogitRows, options.prefix_caching},
                  cache.pool()),
        samplers(options.sampling_threads > 0 ? options.sampling_threads
                                              : std::min(available_processors(), kMostSamplingThreads)) {
    stats.blocks = plan.blocks;
    thread = std::thread([this] { run(); });
  }

  // On any thread.
  Submission submit(Request request, RequestSink sink);

  // On the engine's thread.
  void run();
  void step();
  void advance(Active& active, const Chunk& chunk, std::span<const float> rows);
  void sample(Active& active, std::span<const float> logits);
  void settle(Active& active);
  void finish(Active& active, FinishReason reason);
  void abort(RequestId id);
  void update_gauges();
  bool is_eos(std::int32_t id) const {
    return std::find(model.eos_ids.begin(), model.eos_ids.end(), id) != model.eos_ids.end();
  }

  const EngineModel model;
  const EngineOptions options;
  const models::Decoder::Limits limits;
  KvCache cache;
  Runner runner;
  Scheduler scheduler;
  ThreadPool samplers;
  std::unordered_map<RequestId, std::unique_ptr<Active>> active;

  mutable std::mutex mutex;
  std::condition_variable wake;  ///< something for the engine's thread
  std::condition_variable idle;  ///< a request ended
  std::vector<std::unique_ptr<Active>> inbox;
  std::vector<RequestId> aborts;
  RequestId last_id = 0;
  std::int64_t outstanding = 0;  ///< accepted and not finished
  bool draining = false;
  bool stopping = false;
  EngineStats stats;

  std::mutex join_mutex;
  std::thread thread;
};

Submission Engine::Impl::submit(Request request, RequestSink sink) {
  const std::int64_t vocabulary = model.decoder->spec().vocabulary;
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
  const std::int64_t longest = limits.max_context - (request.prompt_only ? 0 : 1);
  SABREWING_CHECK(prompt_tokens >= 1, kInvalidArgument, "[engine] the prompt is empty");
  SABREWING_CHECK(prompt_tokens <= longest, kInvalidArgument,
                  "[engine] the prompt has {} tokens, the context holds {} with the answer", prompt_tokens,
                  limits.max_context);
  for (const std::int32_t id : request.prompt)
    SABREWING_CHECK(id >= 0 && id < vocabulary, kInvalidArgument,
                    "[engine] token id {} is outside the vocabulary of {}", id, vocabulary);
  SABREWING_CHECK(!request.prompt_logprobs || *request.prompt_logprobs >= 0, kInvalidArgument,
                  "[engine] prompt_logprobs is {}: at least 0 expected", *request.prompt_logprobs);
  SABREWING_CHECK(model.tokenizer != nullptr || request.sampling.stop.empty(), kInvalidArgument,
                  "[engine] stop strings need a tokenizer, which this model lacks");
  const SamplingParams& sampling = request.sampling;
  const std::span<const std::int32_t> end_ids =
      sampling.ignore_eos ? std::span<const std::int32_t>() : std::span<const std::int32_t>(model.eos_ids);
  auto held = std::make_unique<Active>(Sampler(sampling, vocabulary, end_ids), StopChecker(sampling.stop));
  held->sink = std::move(sink);
  held->sampler.add_prompt(request.prompt);
  if (model.tokenizer != nullptr) held->detokenizer.emplace(*model.tokenizer, request.skip_special_tokens);
  if (request.mask != nullptr) held->allowed.resize(static_cast<std::size_t>(vocabulary + 31) / 32);
  held->limit = std::min(sampling.max_tokens, limits.max_context - prompt_tokens);
  held->submitted = Clock::now();
  held->request = std::move(request);

  const std::lock_guard lock(mutex);
  if (draining || stopping) return {0, "the engine is shutting down"};
  if (outstanding - stats.running >= options.max_waiting)
    return {0, fmt::format("the queue is full: {} requests wait", outstanding - stats.running)};
  held->id = ++last_id;
  ++outstanding;
  inbox.push_back(std::move(held));
  wake.notify_one();
  return {last_id, {}};
}

void Engine::Impl::run() {
  for (;;) {
    std::vector<std::unique_ptr<Active>> arrived;
    std::vector<RequestId> aborted;
    bool ending = false;
    {
      std::unique_lock lock(mutex);
      wake.wait(lock, [&] { return stopping || !inbox.empty() || !aborts.empty() || !active.empty(); });
      arrived.swap(inbox);
      aborted.swap(aborts);
      ending = stopping;
    }
    for (auto& request : arrived) {
      Sequence sequence;
      sequence.id = request->id;
      sequence.tokens = request->request.prompt;
      sequence.priority = request->request.priority;
      sequence.prompt_logits = request->request.prompt_logprobs.has_value();
      sequence.salt = request->request.cache_salt;
      scheduler.add(std::move(sequence));
      active.emplace(request->id, std::move(request));
    }
    for (const RequestId id : aborted) abort(id);
    if (ending) {
      while (!active.empty()) abort(active.begin()->first);
      update_gauges();
      return;
    }
    step();
    update_gauges();
  }
}

void Engine::Impl::abort(RequestId id) {
  const auto found = active.find(id);
  if (found == active.end()) return;
  scheduler.remove(id);
  finish(*found->second, FinishReason::kAborted);
  settle(*found->second);
}

void Engine::Impl::step() {
  const Clock::time_point begin = Clock::now();
  const std::span<const Chunk> chunks = scheduler.schedule();
  if (chunks.empty()) return;
  std::vector<StepSequence> sequences;
  std::vector<Active*> owners;
  std::int64_t tokens = 0;
  for (const Chunk& chunk : chunks) {
    StepSequence sequence;
    sequence.tokens =
        std::span(chunk.sequence->tokens)
            .subspan(static_cast<std::size_t>(chunk.first), static_cast<std::size_t>(chunk.count));
    sequence.first_position = chunk.first;
    sequence.blocks = chunk.sequence->blocks;
    sequence.all_logits = chunk.all_logits;
    sequence.last_logits = chunk.sample;
    sequences.push_back(sequence);
    tokens += chunk.count;
    Active* owner = active.find(chunk.sequence->id)->second.get();
    if (!owner->started) owner->started = begin;
    owner->cached_tokens = chunk.sequence->cached_tokens;
    owners.push_back(owner);
  }

  const Clock::time_point model_begin = Clock::now();
  std::span<const float> logits;
  std::optional<Error> failure;
  try {
    logits = runner.step(sequences);
  } catch (const Error& error) {
    failure = error;
  } catch (const std::exception& error) {
    failure = Error(ErrorCode::kInternal, error.what());
  }
  const Clock::time_point model_end = Clock::now();
  if (failure) {
    log(LogLevel::kError, "a step of {} requests failed: {}", chunks.size(), failure->what());
    for (Active* owner : owners) owner->update.error = failure;
  } else {
    scheduler.complete();
    const auto vocabulary = static_cast<std::size_t>(model.decoder->spec().vocabulary);
    std::vector<std::span<const float>> rows;
    std::size_t row = 0;
    for (const Chunk& chunk : chunks) {
      const std::size_t count = chunk.all_logits ? static_cast<std::size_t>(chunk.count)
                                : chunk.sample   ? 1
                                                 : 0;
      rows.push_back(logits.subspan(row * vocabulary, count * vocabulary));
      row += count;
    }
    const auto one = [&](std::int64_t i, int) {
      const auto at = static_cast<std::size_t>(i);
      if (!rows[at].empty()) advance(*owners[at], chunks[at], rows[at]);
    };
    if (static_cast<std::int64_t>(logits.size()) >= kParallelLogits)
      samplers.parallel_for(static_cast<std::int64_t>(owners.size()), one);
    else
      for (std::size_t i = 0; i < owners.size(); ++i) one(static_cast<std::int64_t>(i), 0);
  }

  // The chunks end with the first change of the scheduler.
  const Clock::time_point now = Clock::now();
  for (Active* owner : owners) {
    RequestUpdate& update = owner->update;
    if (update.error) {
      scheduler.remove(owner->id, true);
      finish(*owner, FinishReason::kError);
    } else if (update.finished) {
      scheduler.remove(owner->id);
    } else if (!update.tokens.empty()) {
      scheduler.append(owner->id, update.tokens.back().id);
    }
    if (update.tokens.empty() && update.finished && !update.error) {
      const std::lock_guard lock(mutex);
      stats.prompt_tokens += owner->request.prompt.size();
    }
    if (!update.tokens.empty()) {
      const std::lock_guard lock(mutex);
      ++stats.generated_tokens;
      if (!owner->first_token) {
        stats.prompt_tokens += owner->request.prompt.size();
        stats.time_to_first_token.add(seconds_between(owner->submitted, now));
      } else {
        stats.inter_token_latency.add(seconds_between(owner->last_token, now));
      }
      owner->first_token = owner->first_token.value_or(now);
      owner->last_token = now;
    }
    if (update.finished || !update.tokens.empty() || !update.prompt_logprobs.empty()) settle(*owner);
  }

  const double model_seconds = seconds_between(model_begin, model_end);
  const std::lock_guard lock(mutex);
  ++stats.steps;
  stats.step_seconds += model_seconds;
  stats.host_seconds += seconds_between(begin, Clock::now()) - model_seconds;
  stats.step_tokens.add(static_cast<double>(tokens));
}

/// The host work of one chunk's logits. On any thread of the pool; touches only its own request.
void Engine::Impl::advance(Active& request, const Chunk& chunk, std::span<const float> rows) {
  const auto vocabulary = static_cast<std::size_t>(model.decoder->spec().vocabulary);
  RequestUpdate& update = request.update;
  try {
    if (chunk.all_logits) {
      const auto prompt_tokens = static_cast<std::int64_t>(request.request.prompt.size());
      for (std::int64_t i = 0; i < chunk.count; ++i) {
        const std::int64_t position = chunk.first + i + 1;
        if (position >= prompt_tokens || position <= request.scored) continue;
        const TokenLogprobs entry = token_logprobs(
            rows.subspan(static_cast<std::size_t>(i) * vocabulary, vocabulary),
            request.request.prompt[static_cast<std::size_t>(position)], *request.request.prompt_logprobs);
        SABREWING_CHECK(!std::isnan(entry.chosen.logprob), kCorrupt,
                        "[engine] the logits after prompt token {} are no numbers", position - 1);
        update.prompt_logprobs.push_back(entry);
        request.scored = position;
      }
    }
    if (chunk.sample) sample(request, rows.last(vocabulary));
  } catch (const Error& error) {
    update.error = error;
  } catch (const std::exception& error) {
    update.error = Error(ErrorCode::kInternal, error.what());
  }
  if (update.error) update.tokens.clear();
}

void Engine::Impl::sample(Active& request, std::span<const float> logits) {
  if (request.request.prompt_only) return finish(request, FinishReason::kLength);
  TokenMask* mask = request.request.mask.get();
  if (mask != nullptr) mask->fill(request.allowed);
  const SampledToken token = request.sampler.sample(logits, request.allowed);
  if (mask != nullptr) mask->accept(token.id);
  ++request.generated;
  const SamplingParams& params = request.request.sampling;
  RequestUpdate& update = request.update;
  update.tokens.push_back({token.id, {}, token.logprobs});
  std::string& text = update.tokens.back().text;

  const bool listed = std::find(params.stop_token_ids.begin(), params.stop_token_ids.end(), token.id) !=
                      params.stop_token_ids.end();
  const bool ended = listed || (!params.ignore_eos && is_eos(token.id));
  if (listed) update.stop_token = token.id;
  if (request.detokenizer && !ended && model.tokenizer->has_token(token.id))
    text = request.stop.push(request.detokenizer->push(token.id));
  const bool complete = ended || (mask != nullptr && mask->finished());
  const bool last = complete || request.generated == request.limit;
  if (last && request.detokenizer && !request.stop.stopped()) {
    text += request.stop.push(request.detokenizer->flush());
    text += request.stop.flush();
  }
  update.stop_string = request.stop.matched();
  if (complete || request.stop.stopped())
    finish(request, FinishReason::kStop);
  else if (last)
    finish(request, FinishReason::kLength);
}

void Engine::Impl::finish(Active& request, FinishReason reason) {
  request.update.finished = true;
  request.update.reason = reason;
}

/// Sends the pending update and forgets a request that is finished.
void Engine::Impl::settle(Active& request) {
  const RequestId id = request.id;
  const Clock::time_point now = Clock::now();
  RequestUpdate update = std::exchange(request.update, {});
  update.id = id;
  update.usage = {static_cast<std::int64_t>(request.request.prompt.size()), request.generated,
                  request.cached_tokens};
  if (update.finished) {
    RequestTimes& times = update.times;
    times.total = seconds_between(request.submitted, now);
    times.queue = seconds_between(request.submitted, request.started.value_or(now));
    if (request.first_token) {
      times.prefill = seconds_between(*request.started, *request.first_token);
      times.first_token = seconds_between(request.submitted, *request.first_token);
      times.decode = seconds_between(*request.first_token, request.last_token);
    }
  }
  try {
    request.sink(update);
  } catch (const std::exception& error) {
    log(LogLevel::kWarning, "request {} is aborted: its receiver failed: {}", id, error.what());
    if (!update.finished) {
      scheduler.remove(id);
      update.finished = true;
      update.reason = FinishReason::kAborted;
    }
  }
  if (!update.finished) return;

  const bool started = request.started.has_value();
  const double generated = static_cast<double>(request.generated);
  const double limit = static_cast<double>(request.limit);
  active.erase(id);
  const std::lock_guard lock(mutex);
  --outstanding;
  ++stats.finished[static_cast<std::size_t>(update.reason)];
  stats.end_to_end.add(update.times.total);
  stats.queue_time.add(update.times.queue);
  if (started) stats.inference_time.add(update.times.total - update.times.queue);
  if (generated > 0) {
    stats.prefill_time.add(update.times.prefill);
    stats.decode_time.add(update.times.decode);
  }
  if (generated > 1) stats.time_per_output_token.add(update.times.decode / (generated - 1));
  stats.request_prompt_tokens.add(static_cast<double>(update.usage.prompt_tokens));
  stats.request_generated_tokens.add(generated);
  stats.request_max_tokens.add(limit);
  idle.notify_all();
}

void Engine::Impl::update_gauges() {
  const BlockPool& pool = cache.pool();
  const std::lock_guard lock(mutex);
  stats.running = scheduler.running();
  stats.used_blocks = pool.used_blocks();
  stats.cached_blocks = pool.kept_blocks();
  stats.prefix_queries = scheduler.prefix_queries();
  stats.prefix_hits = scheduler.prefix_hits();
  stats.preemptions = scheduler.preemptions();
  idle.notify_all();
}

Engine::Engine(EngineModel model, const EngineOptions& options) {
  SABREWING_CHECK(model.decoder != nullptr, kInvalidArgument, "[engine] no model");
  const EnginePlan plan = make_plan(*model.decoder, options);
  impl_ = std::make_unique<Impl>(std::move(model), options, plan);
}

Engine::~Engine() { stop(); }

std::size_t Engine::cache_bytes(const models::Decoder& decoder, const EngineOptions& options) {
  return KvCache::bytes(decoder, options.block_size, make_plan(decoder, options).blocks);
}

std::size_t Engine::workspace_bytes(const models::Decoder& decoder, const EngineOptions& options) {
  return decoder.workspace_bytes(make_plan(decoder, options).limits);
}

Submission Engine::submit(Request request, RequestSink sink) {
  return impl_->submit(std::move(request), std::move(sink));
}

void Engine::abort(RequestId id) {
  const std::lock_guard lock(impl_->mutex);
  impl_->aborts.push_back(id);
  impl_->wake.notify_one();
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(impl_->mutex);
  EngineStats stats = impl_->stats;
  stats.waiting = std::max<std::int64_t>(0, impl_->outstanding - stats.running);
  return stats;
}

bool Engine::drain(std::chrono::milliseconds timeout) {
  std::unique_lock lock(impl_->mutex);
  impl_->draining = true;
  return impl_->idle.wait_for(lock, timeout,
                              [&] { return impl_->outstanding == 0 && impl_->stats.used_blocks == 0; });
}

void Engine::stop() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    impl_->wake.notify_one();
  }
  const std::lock_guard lock(impl_->join_mutex);
  if (impl_->thread.joinable()) impl_->thread.join();
}

std::int64_t Engine::max_context() const { return impl_->limits.max_context; }
std::int64_t Engine::vocabulary() const { return impl_->model.decoder->spec().vocabulary; }

}  // namespace sabrewing::engine
