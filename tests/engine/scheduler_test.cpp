// Scheduler decisions, first one by one, then as properties of random traces: every position a step reads
// must hold exactly the tokens of its own sequence, which a model of the cache memory checks.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <random>
#include <set>

namespace sabrewing::engine {
namespace {

using Ids = std::vector<std::int32_t>;

Sequence make_sequence(RequestId id, std::int64_t tokens, std::int32_t priority = 0, std::int32_t first = 0) {
  Sequence sequence;
  sequence.id = id;
  sequence.priority = priority;
  for (std::int64_t i = 0; i < tokens; ++i) sequence.tokens.push_back(first + static_cast<std::int32_t>(i));
  return sequence;
}

/// id and count of each chunk
std::vector<std::pair<RequestId, std::int64_t>> summary(std::span<const Chunk> chunks) {
  std::vector<std::pair<RequestId, std::int64_t>> result;
  for (const Chunk& chunk : chunks) result.emplace_back(chunk.sequence->id, chunk.count);
  return result;
}
using Summary = std::vector<std::pair<RequestId, std::int64_t>>;

/// A whole step; every sampling request gets the next token of its own.
Summary run_step(Scheduler& scheduler) {
  const auto chunks = scheduler.schedule();
  Summary result = summary(chunks);
  scheduler.complete();
  std::vector<RequestId> sampled;
  for (const Chunk& chunk : chunks)
    if (chunk.sample) sampled.push_back(chunk.sequence->id);
  for (const RequestId id : sampled) scheduler.append(id, static_cast<std::int32_t>(1000 + id));
  return result;
}

TEST(Scheduler, DecodesFirstThenFillsTheBudgetWithPrompts) {
  BlockPool pool(4, 100);
  Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 10}, pool);
  scheduler.add(make_sequence(1, 6, 0, 100));
  scheduler.add(make_sequence(2, 20, 0, 200));
  scheduler.add(make_sequence(3, 3, 0, 300));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 6}, {2, 4}}));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 1}, {2, 9}}));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 1}, {2, 7}, {3, 2}}));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 1}, {2, 1}, {3, 1}}));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 1}, {2, 1}, {3, 1}}));
}

TEST(Scheduler, SharesAStepAmongPromptsByChunk) {
  BlockPool pool(4, 100);
  Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 10, .max_chunk_tokens = 4}, pool);
  scheduler.add(make_sequence(1, 9, 0, 100));
  scheduler.add(make_sequence(2, 9, 0, 200));
  scheduler.add(make_sequence(3, 9, 0, 300));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 4}, {2, 4}, {3, 2}}));
}

TEST(Scheduler, AdmitsByPriorityThenArrival) {
  BlockPool pool(4, 100);
  Scheduler scheduler({.max_num_seqs = 1, .max_num_batched_tokens = 100, .fair_share = 100}, pool);
  scheduler.add(make_sequence(1, 2, 5, 100));
  scheduler.add(make_sequence(2, 2, 0, 200));
  scheduler.add(make_sequence(3, 2, -1, 300));
  scheduler.add(make_sequence(4, 2, 0, 400));
  for (const RequestId expected : {3, 2, 4, 1}) {
    EXPECT_EQ(run_step(scheduler), (Summary{{expected, 2}}));
    EXPECT_TRUE(scheduler.remove(expected));
  }
}

TEST(Scheduler, PreemptsTheLowestPriorityThenTheLatest) {
  BlockPool pool(2, 6);
  Scheduler scheduler({.max_num_seqs = 3, .max_num_batched_tokens = 100, .prefix_caching = false}, pool);
  scheduler.add(make_sequence(1, 4, 1, 100));
  scheduler.add(make_sequence(2, 4, 0, 200));
  scheduler.add(make_sequence(3, 4, 0, 300));
  EXPECT_EQ(run_step(scheduler), (Summary{{2, 4}, {3, 4}, {1, 4}}));
  EXPECT_EQ(run_step(scheduler), (Summary{{2, 1}, {3, 1}})) << "1 has the lowest priority";
  EXPECT_EQ(scheduler.preemptions(), 1);
  EXPECT_EQ(run_step(scheduler), (Summary{{2, 1}, {3, 1}}));
  EXPECT_EQ(run_step(scheduler), (Summary{{2, 1}})) << "3 came after 2";
  EXPECT_EQ(scheduler.preemptions(), 2);
  EXPECT_TRUE(scheduler.remove(2));
  EXPECT_EQ(run_step(scheduler), (Summary{{3, 7}})) << "its prompt and three tokens again, and no room for 1";
  EXPECT_TRUE(scheduler.remove(3));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 5}}));
  EXPECT_TRUE(scheduler.remove(1));
  EXPECT_EQ(pool.used_blocks(), 0);
}

TEST(Scheduler, TakesAPromptFromTheCacheButItsLastToken) {
  BlockPool pool(4, 100);
  Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 100}, pool);
  scheduler.add(make_sequence(1, 12));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 12}}));
  scheduler.add(make_sequence(2, 12));
  scheduler.add(make_sequence(3, 14));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 1}, {2, 4}, {3, 2}}));
  EXPECT_EQ(scheduler.find(2)->cached_tokens, 8);
  EXPECT_EQ(scheduler.find(3)->cached_tokens, 12);
  EXPECT_EQ(scheduler.prefix_queries(), 12 + 12 + 14);
  EXPECT_EQ(scheduler.prefix_hits(), 8 + 12);
  EXPECT_EQ(scheduler.find(2)->blocks[0], scheduler.find(1)->blocks[0]);
}

TEST(Scheduler, WaitsForAPrefixThatIsBeingComputed) {
  BlockPool pool(4, 100);
  Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 10}, pool);
  scheduler.add(make_sequence(1, 14));
  scheduler.add(make_sequence(2, 14));
  scheduler.add(make_sequence(3, 3, 0, 500));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 10}}));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 4}, {3, 3}})) << "2 is held back, 3 is not";
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 1}, {3, 1}, {2, 2}}));
}

TEST(Scheduler, LimitsTheRowsOfPromptLogits) {
  BlockPool pool(4, 100);
  Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 100, .max_prompt_logit_rows = 6}, pool);
  Sequence scored = make_sequence(1, 8);
  scored.prompt_logits = true;
  scheduler.add(scored);
  scored.id = 2;
  scheduler.add(scored);
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 6}}));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 2}, {2, 4}}));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 1}, {2, 4}}));
}

TEST(Scheduler, RefusesWhatCannotFit) {
  BlockPool pool(4, 3);
  Scheduler scheduler({.max_num_seqs = 2, .max_num_batched_tokens = 8}, pool);
  EXPECT_THROW(scheduler.add(make_sequence(1, 0)), Error);
  EXPECT_THROW(scheduler.add(make_sequence(1, 13)), Error);
  scheduler.add(make_sequence(1, 12));
  EXPECT_FALSE(scheduler.remove(2));
  EXPECT_THROW(Scheduler({.max_num_seqs = 9, .max_num_batched_tokens = 8}, pool), Error);
  EXPECT_THROW(Scheduler({.max_num_seqs = 0}, pool), Error);
}

TEST(Scheduler, KeepsWhatItAdmittedOutOfTurn) {
  BlockPool pool(2, 5);
  Scheduler scheduler(
      {.max_num_seqs = 2, .max_num_batched_tokens = 100, .prefix_caching = false, .fair_share = 1}, pool);
  scheduler.add(make_sequence(1, 4, 5, 100));
  scheduler.add(make_sequence(2, 4, 0, 200));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 4}, {2, 4}}));
  EXPECT_EQ(run_step(scheduler), (Summary{{1, 1}}));
  EXPECT_FALSE(scheduler.find(2)->running);
}

/// Urgent requests without end must not keep an unimportant one from its end.
TEST(Scheduler, DoesNotStarveALowPriority) {
  BlockPool pool(4, 13);
  Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 8, .prefix_caching = false}, pool);
  scheduler.add(make_sequence(1, 20, 100));
  std::map<RequestId, std::int64_t> answered;
  RequestId next = 2;
  int steps = 0;
  for (; steps < 2000 && answered[1] < 20; ++steps) {
    for (; scheduler.waiting() + scheduler.running() < 8; ++next)
      scheduler.add(make_sequence(next, 10 + static_cast<std::int64_t>(next % 7), 0,
                                  static_cast<std::int32_t>(next * 50)));
    std::vector<RequestId> sampled;
    for (const Chunk& chunk : scheduler.schedule())
      if (chunk.sample) sampled.push_back(chunk.sequence->id);
    scheduler.complete();
    for (const RequestId id : sampled) {
      if (++answered[id] >= 20)
        scheduler.remove(id);
      else
        scheduler.append(id, 7);
    }
  }
  EXPECT_LT(steps, 1000);
  EXPECT_GT(answered.size(), 4) << "the others must have competed";
}

/// What a random trace counted.
struct Totals {
  std::int64_t traces = 0, steps = 0, requests = 0, finished = 0, aborted = 0, preemptions = 0, hits = 0,
               tokens = 0;
  std::int64_t longest_wait = 0;  ///< steps from arrival to the end, without aborts
};

/// A scheduler driven by a fake model and watched from outside.
class Trace {
 public:
  explicit Trace(std::uint64_t seed)
      : random_(seed),
        options_(random_options()),
        pool_(pick(1, 6), pick(2, 24)),
        scheduler_(options_, pool_),
        memory_(static_cast<std::size_t>(pool_.blocks() * pool_.block_size())) {}

  void run(Totals& totals) {
    const std::int64_t requests = pick(1, 10);
    const std::int64_t aborts = pick(0, 3) == 0 ? 15 : 0;  // percent per step
    while (!testing::Test::HasFailure() && (added_ < requests || !live_.empty())) {
      while (added_ < requests && pick(0, 2) != 0) add();
      if (pick(1, 100) <= aborts) remove_random(totals);
      step(totals);
    }
    EXPECT_EQ(finished_, added_) << "a request was lost";
    EXPECT_EQ(pool_.used_blocks(), 0) << "blocks leak";
    EXPECT_EQ(pool_.free_blocks(), pool_.blocks());
    EXPECT_EQ(scheduler_.running() + scheduler_.waiting(), 0);
    ++totals.traces;
    totals.requests += added_;
    totals.preemptions += static_cast<std::int64_t>(scheduler_.preemptions());
    totals.hits += static_cast<std::int64_t>(scheduler_.prefix_hits());
  }

 private:
  /// The request as its sender knows it.
  struct Live {
    Ids tokens;
    std::vector<std::uint64_t> history;  ///< history[i]: of tokens [0, i] and the salt
    std::int64_t prompt = 0;
    std::int64_t wanted = 0;  ///< tokens in all
    std::int64_t computed = 0;
    bool prompt_logits = false;
    std::set<std::int64_t> scored;
    std::int64_t arrived = 0;
  };

  std::int64_t pick(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(high - low + 1));
  }

  SchedulerOptions random_options() {
    SchedulerOptions options;
    options.max_num_seqs = pick(1, 6);
    options.max_num_batched_tokens = options.max_num_seqs + pick(0, 12);
    options.max_chunk_tokens = pick(0, 1) * pick(1, 6);
    options.max_prompt_logit_rows = pick(1, 8);
    options.prefix_caching = pick(0, 3) != 0;
    options.fair_share = pick(1, 8);
    return options;
  }

  static void extend_history(Live& live, std::uint64_t salt) {
    while (live.history.size() < live.tokens.size()) {
      const std::uint64_t before = live.history.empty() ? salt + 1 : live.history.back();
      live.history.push_back((before ^ static_cast<std::uint64_t>(live.tokens[live.history.size()] + 1)) *
                                 0x9E3779B97F4A7C15 +
                             1);
    }
  }

  void add() {
    const std::int64_t capacity = pool_.blocks() * pool_.block_size();
    Live live;
    live.prompt = pick(1, std::min<std::int64_t>(capacity, 24));
    live.wanted = std::min(capacity, live.prompt + pick(1, 12));
    if (live.wanted == live.prompt) --live.prompt;
    if (live.prompt == 0) return;
    // Few different tokens, so that beginnings meet.
    const std::int64_t variants = pick(1, 2);
    for (std::int64_t i = 0; i < live.prompt; ++i)
      live.tokens.push_back(static_cast<std::int32_t>(pick(1, 20) == 1 ? pick(1, variants) : 0));
    live.prompt_logits = pick(0, 5) == 0;
    live.arrived = steps_;
    Sequence sequence;
    sequence.id = static_cast<RequestId>(++added_);
    sequence.tokens = live.tokens;
    sequence.priority = static_cast<std::int32_t>(pick(-1, 1));
    sequence.prompt_logits = live.prompt_logits;
    sequence.salt = pick(0, 4) == 0 ? "s" : "";
    salts_[sequence.id] = sequence.salt.empty() ? 0 : 77;
    extend_history(live, salts_[sequence.id]);
    live_.emplace(sequence.id, std::move(live));
    scheduler_.add(std::move(sequence));
  }

  void remove_random(Totals& totals) {
    if (live_.empty()) return;
    auto victim = live_.begin();
    std::advance(victim, pick(0, static_cast<std::int64_t>(live_.size()) - 1));
    EXPECT_TRUE(scheduler_.remove(victim->first, pick(0, 1) == 1));
    EXPECT_FALSE(scheduler_.remove(victim->first));
    live_.erase(victim);
    ++finished_;
    ++totals.aborted;
  }

  std::uint64_t& slot(const Sequence& sequence, std::int64_t position) {
    const std::int32_t block = sequence.blocks.at(static_cast<std::size_t>(position / pool_.block_size()));
    return memory_.at(static_cast<std::size_t>(block * pool_.block_size() + position % pool_.block_size()));
  }

  void step(Totals& totals) {
    const std::span<const Chunk> chunks = scheduler_.schedule();
    ++steps_;
    ++totals.steps;
    std::int64_t tokens = 0;
    std::int64_t rows = 0;
    std::set<RequestId> seen;
    for (const Chunk& chunk : chunks) {
      const Sequence& sequence = *chunk.sequence;
      ASSERT_TRUE(live_.contains(sequence.id));
      ASSERT_TRUE(seen.insert(sequence.id).second) << "twice in a step";
      Live& live = live_.at(sequence.id);
      ASSERT_EQ(sequence.tokens, live.tokens);
      ASSERT_GE(chunk.count, 1);
      ASSERT_LE(chunk.first + chunk.count, sequence.size());
      ASSERT_EQ(chunk.sample, chunk.first + chunk.count == sequence.size());
      ASSERT_TRUE(options_.max_chunk_tokens == 0 || chunk.count <= options_.max_chunk_tokens);
      tokens += chunk.count;
      if (chunk.all_logits) rows += chunk.count;
      if (chunk.all_logits)
        for (std::int64_t i = 0; i < chunk.count; ++i) live.scored.insert(chunk.first + i);
      // As the model does: all writes of a step, then all reads.
      for (std::int64_t i = chunk.first; i < chunk.first + chunk.count; ++i)
        slot(sequence, i) = live.history[static_cast<std::size_t>(i)];
    }
    ASSERT_LE(tokens, options_.max_num_batched_tokens);
    ASSERT_LE(rows, options_.max_prompt_logit_rows);
    ASSERT_LE(static_cast<std::int64_t>(chunks.size()), options_.max_num_seqs);
    ASSERT_LE(scheduler_.running(), options_.max_num_seqs);
    ASSERT_EQ(scheduler_.running() + scheduler_.waiting(), static_cast<std::int64_t>(live_.size()));
    ASSERT_TRUE(live_.empty() || !chunks.empty()) << "nothing runs though requests wait";
    totals.tokens += tokens;
    for (const Chunk& chunk : chunks)
      for (std::int64_t i = 0; i < chunk.first + chunk.count; ++i)
        ASSERT_EQ(slot(*chunk.sequence, i), live_.at(chunk.sequence->id).history[static_cast<std::size_t>(i)])
            << "position " << i << " holds something else";
    scheduler_.complete();
    std::vector<RequestId> sampled;
    for (const Chunk& chunk : chunks)
      if (chunk.sample) sampled.push_back(chunk.sequence->id);
    for (const RequestId id : sampled) {
      Live& live = live_.at(id);
      for (std::int64_t i = 0; live.prompt_logits && i + 1 < live.prompt; ++i)
        ASSERT_TRUE(live.scored.contains(i)) << i;
      const auto token = static_cast<std::int32_t>(pick(1, 12) == 1 ? 1 : 0);
      live.tokens.push_back(token);
      extend_history(live, salts_.at(id));
      if (static_cast<std::int64_t>(live.tokens.size()) == live.wanted) {
        ASSERT_TRUE(scheduler_.remove(id));
        totals.longest_wait = std::max(totals.longest_wait, steps_ - live.arrived);
        ++totals.finished;
        ++finished_;
        live_.erase(id);
      } else {
        scheduler_.append(id, token);
      }
    }
    // Ten requests of at most 36 tokens: if each ran alone, twice, all would be done.
    for (const auto& [id, live] : live_)
      ASSERT_LT(steps_ - live.arrived, 10 * 36 * 2) << "request " << id << " starves";
  }

  std::mt19937_64 random_;
  SchedulerOptions options_;
  BlockPool pool_;
  Scheduler scheduler_;
  std::vector<std::uint64_t> memory_;
  std::map<RequestId, Live> live_;
  std::map<RequestId, std::uint64_t> salts_;
  std::int64_t added_ = 0;
  std::int64_t finished_ = 0;
  std::int64_t steps_ = 0;
};

TEST(Scheduler, KeepsItsPromisesInRandomTraces) {
  const auto start = std::chrono::steady_clock::now();
  Totals totals;
  for (std::uint64_t seed = 0; seed < 100000 && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Trace(seed).run(totals);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf(
      "%lld traces, %lld steps, %lld tokens, %lld requests: %lld finished, %lld aborted; %lld preemptions, "
      "%lld tokens from the cache, longest stay %lld steps; %.1f s\n",
      static_cast<long long>(totals.traces), static_cast<long long>(totals.steps),
      static_cast<long long>(totals.tokens), static_cast<long long>(totals.requests),
      static_cast<long long>(totals.finished), static_cast<long long>(totals.aborted),
      static_cast<long long>(totals.preemptions), static_cast<long long>(totals.hits),
      static_cast<long long>(totals.longest_wait), seconds);
  EXPECT_EQ(totals.requests, totals.finished + totals.aborted);
  EXPECT_GT(totals.preemptions, 10000);
  EXPECT_GT(totals.hits, 10000);
  EXPECT_GT(totals.aborted, 10000);
}

TEST(Scheduler, DecidesTheSameAgain) {
  const auto record = [] {
    BlockPool pool(3, 20);
    Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 9}, pool);
    std::vector<Summary> steps;
    for (RequestId id = 1; id <= 12; ++id) {
      scheduler.add(
          make_sequence(id, static_cast<std::int64_t>(4 + id % 5), static_cast<std::int32_t>(id % 3)));
      steps.push_back(run_step(scheduler));
      if (id > 5) scheduler.remove(id - 5);
    }
    return steps;
  };
  EXPECT_EQ(record(), record());
}

}  // namespace
}  // namespace sabrewing::engine
