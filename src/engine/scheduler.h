#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "engine/prefix_cache.h"
#include "engine/request.h"

namespace sabrewing::engine {

struct SchedulerOptions {
  std::int64_t max_num_seqs = 256;
  std::int64_t max_num_batched_tokens = 2048;  ///< >= max_num_seqs
  std::int64_t max_chunk_tokens = 0;           ///< of one request in one step; 0: only the step's limit
  std::int64_t max_prompt_logit_rows = 64;     ///< per step, for `prompt_logits`
  bool prefix_caching = true;
  /// Every so many admissions the request that came first is next, whatever its priority.
  std::int64_t fair_share = 8;
};

/// What the scheduler knows of a request.
struct Sequence {
  RequestId id = 0;
  std::vector<std::int32_t> tokens;  ///< the prompt, then what was sampled
  std::int64_t prompt_tokens = 0;
  std::int32_t priority = 0;   ///< lower first
  bool prompt_logits = false;  ///< logits after every token of the prompt
  std::string salt;

  // Owned by the scheduler.
  std::uint64_t arrival = 0;
  bool running = false;
  bool favoured = false;           ///< admitted out of turn because it waited longest; goes before all others
  bool admitted = false;           ///< was running at some time
  std::int64_t computed = 0;       ///< tokens whose keys and values are in the cache
  std::int64_t cached_tokens = 0;  ///< of the prompt, found in the cache at the first admission
  std::int64_t stored_blocks = 0;  ///< offered to the prefix cache
  std::int64_t logits_done = 0;    ///< tokens of the prompt whose logits were computed
  std::vector<std::int32_t> blocks;

  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t remaining() const { return size() - computed; }
};

/// A part of a step: tokens [first, first + count) of a sequence.
struct Chunk {
  const Sequence* sequence = nullptr;
  std::int64_t first = 0;
  std::int64_t count = 0;
  bool sample = false;      ///< ends at the last token: the logits there give the next
  bool all_logits = false;  ///< logits after each of its tokens
};

/// Decides which tokens of which requests the next step computes. A state machine without clock or
/// threads: equal calls give equal decisions. A step is `schedule`, the model, `complete`, then `append` or
/// `remove` for every chunk that sampled. `add` and `remove` may come between steps at any time.
class Scheduler {
 public:
  /// Throws `kInvalidArgument` for options that contradict each other.
  Scheduler(const SchedulerOptions& options, BlockPool& pool);

  /// Queues a request. Throws `kInvalidArgument` when it is empty or can never fit the cache.
  void add(Sequence sequence);
  /// Ends a request: gives its blocks back; with `forget`, what they hold is not used again. False for an
  /// unknown id.
  bool remove(RequestId id, bool forget = false);

  /// The next step's chunks; valid until the next call that changes the scheduler, but for `complete`.
  std::span<const Chunk> schedule();
  /// The keys and values of the last schedule's chunks are in the cache.
  void complete();
  /// The token sampled for `id`.
  void append(RequestId id, std::int32_t token);

  /// Null for an unknown id.
  const Sequence* find(RequestId id) const;
  std::int64_t running() const { return static_cast<std::int64_t>(running_.size()); }
  std::int64_t waiting() const { return static_cast<std::int64_t>(waiting_.size()); }
  std::uint64_t preemptions() const { return preemptions_; }
  std::uint64_t prefix_queries() const { return prefix_queries_; }
  std::uint64_t prefix_hits() const { return prefix_hits_; }

 private:
  /// Favoured ones in the order of arrival, then by priority and arrival.
  using Order = std::tuple<int, std::int32_t, std::uint64_t>;

  static Order order(const Sequence& sequence);
  bool wants_all_logits(const Sequence& sequence) const;
  bool reserve(Sequence& sequence);
  void preempt(Sequence& sequence);
  void schedule_decodes();
  bool schedule_prefills();
  void admit_waiting();
  bool admit(Sequence& sequence, bool favoured);
  bool shares_pending_prefix(const Sequence& sequence) const;
  bool push_chunk(Sequence& sequence);
  void release(Sequence& sequence);

  SchedulerOptions options_;
  BlockPool& pool_;
  PrefixCache prefixes_;
  std::unordered_map<RequestId, Sequence> sequences_;
  std::map<Order, Sequence*> running_;
  std::map<Order, Sequence*> waiting_;
  std::map<std::uint64_t, Sequence*> waiting_by_arrival_;
  std::uint64_t arrivals_ = 0;
  std::uint64_t admissions_ = 0;
  std::uint64_t preemptions_ = 0;
  std::uint64_t prefix_queries_ = 0;
  std::uint64_t prefix_hits_ = 0;
  // The step being scheduled.
  std::vector<Chunk> chunks_;
  std::int64_t tokens_left_ = 0;
  std::int64_t rows_left_ = 0;
};

}  // namespace sabrewing::engine
