#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace sabrewing::engine {

Scheduler::Scheduler(const SchedulerOptions& options, BlockPool& pool)
    : options_(options), pool_(pool), prefixes_(pool) {
  SABREWING_CHECK(options.max_num_seqs >= 1, kInvalidArgument,
                  "[scheduler] max_num_seqs is {}: at least 1 expected", options.max_num_seqs);
  // One token each, so that decoding requests leave room for a prompt.
  SABREWING_CHECK(options.max_num_batched_tokens >= options.max_num_seqs, kInvalidArgument,
                  "[scheduler] max_num_batched_tokens is {}: at least max_num_seqs ({}) expected",
                  options.max_num_batched_tokens, options.max_num_seqs);
  SABREWING_CHECK(options.max_chunk_tokens >= 0, kInvalidArgument,
                  "[scheduler] max_chunk_tokens is {}: at least 0 expected", options.max_chunk_tokens);
  SABREWING_CHECK(options.max_prompt_logit_rows >= 1 && options.fair_share >= 1, kInvalidArgument,
                  "[scheduler] max_prompt_logit_rows is {}, fair_share {}: at least 1 expected",
                  options.max_prompt_logit_rows, options.fair_share);
}

Scheduler::Order Scheduler::order(const Sequence& sequence) {
  return {sequence.favoured ? 0 : 1, sequence.favoured ? 0 : sequence.priority, sequence.arrival};
}

void Scheduler::add(Sequence sequence) {
  const std::int64_t capacity = pool_.blocks() * pool_.block_size();
  SABREWING_CHECK(sequence.size() >= 1 && sequence.size() <= capacity, kInvalidArgument,
                  "[scheduler] a prompt of {} tokens: 1 to {}, which the cache holds, expected",
                  sequence.size(), capacity);
  SABREWING_CHECK(!sequences_.contains(sequence.id), kInternal, "[scheduler] request {} exists already",
                  sequence.id);
  sequence.prompt_tokens = sequence.size();
  sequence.arrival = ++arrivals_;
  const RequestId id = sequence.id;
  Sequence& held = sequences_.emplace(id, std::move(sequence)).first->second;
  waiting_.emplace(order(held), &held);
  waiting_by_arrival_.emplace(held.arrival, &held);
}

const Sequence* Scheduler::find(RequestId id) const {
  const auto found = sequences_.find(id);
  return found == sequences_.end() ? nullptr : &found->second;
}

bool Scheduler::remove(RequestId id, bool forget) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return false;
  Sequence& sequence = found->second;
  if (sequence.running) {
    if (forget) prefixes_.forget(sequence.blocks);
    running_.erase(order(sequence));
    release(sequence);
  } else {
    waiting_.erase(order(sequence));
    waiting_by_arrival_.erase(sequence.arrival);
  }
  sequences_.erase(found);
  return true;
}

void Scheduler::append(RequestId id, std::int32_t token) {
  const auto found = sequences_.find(id);
  SABREWING_CHECK(found != sequences_.end() && found->second.running && found->second.remaining() == 0,
                  kInternal, "[scheduler] request {} awaits no token", id);
  SABREWING_CHECK(found->second.size() < pool_.blocks() * pool_.block_size(), kInternal,
                  "[scheduler] request {} outgrows the cache of {} blocks", id, pool_.blocks());
  found->second.tokens.push_back(token);
}

void Scheduler::release(Sequence& sequence) {
  prefixes_.release(sequence.blocks);
  sequence.computed = 0;
  sequence.stored_blocks = 0;
}

void Scheduler::preempt(Sequence& sequence) {
  running_.erase(order(sequence));
  release(sequence);
  sequence.running = false;
  waiting_.emplace(order(sequence), &sequence);
  waiting_by_arrival_.emplace(sequence.arrival, &sequence);
  ++preemptions_;
}

/// Blocks for all its tokens, taken from the last in order if need be; false when that is the sequence
/// itself.
bool Scheduler::reserve(Sequence& sequence) {
  while (!pool_.extend(sequence.blocks, sequence.size())) {
    Sequence& victim = *running_.rbegin()->second;
    preempt(victim);
    if (&victim == &sequence) return false;
  }
  return true;
}

bool Scheduler::wants_all_logits(const Sequence& sequence) const {
  const std::int64_t last = sequence.prompt_tokens - 1;  // gives no logits of the prompt
  return sequence.prompt_logits && sequence.computed < last && sequence.logits_done < last;
}

/// As much of the sequence as fits the step; false when nothing does.
bool Scheduler::push_chunk(Sequence& sequence) {
  Chunk chunk{&sequence, sequence.computed, std::min(sequence.remaining(), tokens_left_), false, false};
  if (options_.max_chunk_tokens > 0) chunk.count = std::min(chunk.count, options_.max_chunk_tokens);
  if (wants_all_logits(sequence)) {
    chunk.all_logits = true;
    chunk.count = std::min(chunk.count, rows_left_);
    rows_left_ -= chunk.count;
  }
  if (chunk.count == 0) return false;
  tokens_left_ -= chunk.count;
  chunk.sample = chunk.first + chunk.count == sequence.size();
  chunks_.push_back(chunk);
  return true;
}

std::span<const Chunk> Scheduler::schedule() {
  chunks_.clear();
  tokens_left_ = options_.max_num_batched_tokens;
  rows_left_ = options_.max_prompt_logit_rows;
  const std::uint64_t preempted = preemptions_;
  schedule_decodes();
  // Newcomers wait while a running prompt got nothing or blocks were short: neither can go on for ever then.
  if (schedule_prefills() && preemptions_ == preempted) admit_waiting();
  return chunks_;
}

void Scheduler::schedule_decodes() {
  for (const auto& running : running_) {
    Sequence& sequence = *running.second;
    if (sequence.remaining() != 1) continue;
    // Takes blocks from the end of the order: never from one that is scheduled already.
    if (!reserve(sequence)) return;
    push_chunk(sequence);
  }
}

/// False when a running prompt got nothing.
bool Scheduler::schedule_prefills() {
  bool all = true;
  for (const auto& [key, sequence] : running_)
    if (sequence->remaining() > 1) all = push_chunk(*sequence) && all;
  return all;
}

void Scheduler::admit_waiting() {
  std::int64_t held_back = 0;
  auto next = waiting_.begin();
  while (running() < options_.max_num_seqs && tokens_left_ > 0 && !waiting_.empty()) {
    const bool fair_turn = (admissions_ + 1) % static_cast<std::uint64_t>(options_.fair_share) == 0;
    if (!fair_turn && next == waiting_.end()) return;
    Sequence& candidate = fair_turn ? *waiting_by_arrival_.begin()->second : *next->second;
    // When another request computes the same beginning now, it is found in the cache later.
    if (!fair_turn && shares_pending_prefix(candidate)) {
      ++next;
      if (++held_back == options_.max_num_seqs) return;
      continue;
    }
    if (next != waiting_.end() && next->second == &candidate) ++next;
    if (!admit(candidate, &candidate != waiting_.begin()->second && fair_turn)) return;
    ++admissions_;
    if (!push_chunk(candidate)) return;
  }
}

bool Scheduler::shares_pending_prefix(const Sequence& sequence) const {
  if (!options_.prefix_caching || sequence.prompt_logits) return false;
  const std::int64_t size = pool_.block_size();
  std::int64_t found = -1;
  for (const auto& [key, other] : running_) {
    if (other->computed == other->size() || other->salt != sequence.salt) continue;
    const auto last = sequence.tokens.end() - 1;  // always computed, for its logits
    const auto parting =
        std::mismatch(sequence.tokens.begin(), last, other->tokens.begin(), other->tokens.end()).first;
    const std::int64_t common = (parting - sequence.tokens.begin()) / size * size;
    if (common <= other->computed) continue;
    if (found < 0)
      found =
          static_cast<std::int64_t>(prefixes_.find({sequence.tokens.begin(), last}, sequence.salt).size()) *
          size;
    if (common > found) return true;
  }
  return false;
}

/// Takes the blocks of all its tokens when they are free, with some to spare for those that run.
bool Scheduler::admit(Sequence& sequence, bool favoured) {
  std::vector<std::int32_t> blocks;
  const bool look_up = options_.prefix_caching && !sequence.prompt_logits;
  if (look_up) blocks = prefixes_.find({sequence.tokens.begin(), sequence.tokens.end() - 1}, sequence.salt);
  const auto held_by_nobody = std::count_if(blocks.begin(), blocks.end(),
                                            [&](std::int32_t block) { return pool_.references(block) == 0; });
  const std::int64_t missing = pool_.blocks_for(sequence.size()) - static_cast<std::int64_t>(blocks.size());
  const std::int64_t spare = std::min(running(), pool_.blocks() / 20);
  if (missing + held_by_nobody + spare > pool_.free_blocks()) return false;

  waiting_.erase(order(sequence));
  waiting_by_arrival_.erase(sequence.arrival);
  for (const std::int32_t block : blocks) pool_.add_reference(block);
  sequence.stored_blocks = static_cast<std::int64_t>(blocks.size());
  sequence.computed = sequence.stored_blocks * pool_.block_size();
  sequence.blocks = std::move(blocks);
  pool_.extend(sequence.blocks, sequence.size());
  if (!sequence.admitted && look_up) {
    sequence.cached_tokens = sequence.computed;
    prefix_queries_ += static_cast<std::uint64_t>(sequence.prompt_tokens);
    prefix_hits_ += static_cast<std::uint64_t>(sequence.cached_tokens);
  }
  sequence.admitted = true;
  sequence.running = true;
  sequence.favoured |= favoured;
  running_.emplace(order(sequence), &sequence);
  return true;
}

void Scheduler::complete() {
  for (const Chunk& chunk : chunks_) {
    Sequence& sequence = sequences_.find(chunk.sequence->id)->second;
    sequence.computed += chunk.count;
    if (chunk.all_logits) sequence.logits_done = std::max(sequence.logits_done, sequence.computed);
    if (!options_.prefix_caching) continue;
    const std::int64_t full = sequence.computed / pool_.block_size();
    prefixes_.store(sequence.tokens, sequence.salt, sequence.blocks, sequence.stored_blocks, full);
    sequence.stored_blocks = full;
  }
}

}  // namespace sabrewing::engine
