// The engine's contract: what a request hears, how it ends, what is refused, and that nothing is left behind.
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>

#include "core/buffer.h"
#include "engine/runner.h"
#include "engine/throughput.h"
#include "engine_fixture.h"

namespace sabrewing::engine {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

class EngineTest : public testing::Test {
 protected:
  static MiniModel& model() { return MiniModel::get("mini-qwen3"); }
  static std::unique_ptr<Engine> make(const EngineOptions& options = {}) {
    return std::make_unique<Engine>(model().engine_model(), options);
  }
  static const Ids& prompt(std::size_t i = 0) { return model().cases[i].prompt; }
  static const Ids& continuation(std::size_t i = 0) { return model().cases[i].greedy; }

  static std::string refusal(Engine& engine, const Request& request) {
    try {
      engine.submit(request, [](const RequestUpdate&) { ADD_FAILURE() << "a refused request was heard of"; });
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "accepted";
  }
};

TEST_F(EngineTest, AnswersAsTransformersDoes) {
  const auto engine = make();
  std::vector<Request> requests;
  for (const MiniModel::Case& one : model().cases) requests.push_back(greedy(one.prompt, 200, false));
  const std::vector<Answer> answers = ask(*engine, requests);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].ids, continuation(i));
    EXPECT_EQ(answers[i].last.reason, FinishReason::kStop);
    EXPECT_FALSE(answers[i].last.stop_token.has_value()) << "an end token is none of the request's own";
    Ids shown = answers[i].ids;
    shown.pop_back();
    EXPECT_EQ(answers[i].text, model().tokenizer->decode(shown, true));
    EXPECT_EQ(answers[i].last.usage.prompt_tokens, static_cast<std::int64_t>(prompt(i).size()));
    EXPECT_EQ(answers[i].last.usage.completion_tokens, static_cast<std::int64_t>(continuation(i).size()));
  }
}

TEST_F(EngineTest, EndsAtLengthStopStringAndStopToken) {
  const auto engine = make();
  const Ids& expected = continuation();
  const Answer five = ask(*engine, greedy(prompt(), 5));
  EXPECT_EQ(five.ids, Ids(expected.begin(), expected.begin() + 5));
  EXPECT_EQ(five.last.reason, FinishReason::kLength);
  EXPECT_EQ(five.text, model().tokenizer->decode(five.ids, true));

  Request request = greedy(prompt(), 200);
  request.sampling.stop_token_ids = {expected[7]};
  const Answer token = ask(*engine, request);
  const auto first = std::find(expected.begin(), expected.end(), expected[7]) - expected.begin();
  EXPECT_EQ(token.ids, Ids(expected.begin(), expected.begin() + first + 1));
  EXPECT_EQ(token.last.reason, FinishReason::kStop);
  EXPECT_EQ(token.last.stop_token, expected[7]);
  EXPECT_EQ(token.text, model().tokenizer->decode(Ids(expected.begin(), expected.begin() + first), true));

  request = greedy(prompt(), 200);
  const std::string whole = model().tokenizer->decode(expected, true);
  const std::string cut = whole.substr(whole.size() / 2, 6);
  request.sampling.stop = {"never there", cut};
  const Answer text = ask(*engine, request);
  EXPECT_EQ(text.text, whole.substr(0, whole.find(cut)));
  EXPECT_EQ(text.last.reason, FinishReason::kStop);
  EXPECT_EQ(text.last.stop_string, cut);

  // Held back as the beginning of a stop string, then shown after all.
  request.sampling.stop = {five.text.substr(five.text.size() - 1) + "\x01"};
  request.sampling.max_tokens = 5;
  EXPECT_EQ(ask(*engine, request).text, five.text);
}

TEST_F(EngineTest, EndsAtTheContext) {
  EngineOptions options;
  options.max_context = static_cast<std::int64_t>(prompt().size()) + 9;
  options.kv_blocks = (options.max_context + 15) / 16;
  const auto engine = make(options);
  const Answer answer = ask(*engine, greedy(prompt(), std::numeric_limits<std::int64_t>::max()));
  EXPECT_EQ(answer.ids, Ids(continuation().begin(), continuation().begin() + 9));
  EXPECT_EQ(answer.last.reason, FinishReason::kLength);
}

TEST_F(EngineTest, RefusesBadRequests) {
  EngineOptions options;
  options.max_context = 64;
  const auto engine = make(options);
  EXPECT_THAT(refusal(*engine, greedy({}, 1)), HasSubstr("empty"));
  EXPECT_THAT(refusal(*engine, greedy(Ids(64, 1), 1)),
              testing::AllOf(HasSubstr("64 tokens"), HasSubstr("holds 64")));
  EXPECT_THAT(refusal(*engine, greedy({1, -1}, 1)), HasSubstr("token id -1"));
  EXPECT_THAT(refusal(*engine, greedy({1, 1024}, 1)),
              HasSubstr("token id 1024 is outside the vocabulary of 1024"));
  EXPECT_THAT(refusal(*engine, greedy({1}, 0)), HasSubstr("max_tokens"));
  Request request = greedy({1}, 1);
  request.prompt_logprobs = -1;
  EXPECT_THAT(refusal(*engine, request), HasSubstr("prompt_logprobs"));
  EngineModel silent = model().engine_model();
  silent.tokenizer = nullptr;
  Engine without(silent, options);
  request = greedy({1}, 3);
  request.sampling.stop = {"x"};
  EXPECT_THAT(refusal(without, request), HasSubstr("tokenizer"));
  request.sampling.stop.clear();
  const Answer answer = ask(without, request);
  EXPECT_EQ(answer.ids.size(), 3);
  EXPECT_EQ(answer.text, "");
}

TEST_F(EngineTest, RefusesContradictingOptions) {
  const auto error = [](auto change) -> std::string {
    EngineOptions options;
    change(options);
    try {
      make(options);
    } catch (const Error& refused) {
      return refused.what();
    }
    return "accepted";
  };
  EXPECT_THAT(error([](auto& o) { o.max_context = 1 << 20; }), HasSubstr("40960"));
  EXPECT_THAT(error([](auto& o) { o.kv_blocks = 2, o.max_context = 33; }),
              testing::AllOf(HasSubstr("33"), HasSubstr("32")));
  EXPECT_THAT(error([](auto& o) { o.kv_bytes = 100; }), HasSubstr("100 bytes"));
  EXPECT_THAT(error([](auto& o) { o.max_num_batched_tokens = 16; }), HasSubstr("max_num_seqs"));
  EXPECT_THAT(error([](auto& o) { o.block_size = 0; }), HasSubstr("block_size"));
}

TEST_F(EngineTest, SharesAPromptAmongItsAnswers) {
  const auto engine = make();
  std::vector<Request> requests(6, greedy(prompt(7), 30));
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].sampling.temperature = 1;
    requests[i].sampling.seed = i;
  }
  requests.back().cache_salt = "other";
  const std::vector<Answer> answers = ask(*engine, requests);
  const auto whole = static_cast<std::int64_t>(prompt(7).size() - 1) / 16 * 16;
  for (std::size_t i = 0; i < answers.size(); ++i)
    EXPECT_EQ(answers[i].last.usage.cached_tokens, i == 0 || i == 5 ? 0 : whole) << i;
}

/// The logits after each token of `ids`, from the decoder alone.
std::vector<std::vector<double>> log_softmax_rows(MiniModel& model, const Ids& ids) {
  const auto tokens = static_cast<std::int64_t>(ids.size());
  KvCache cache(*model.decoder, 16, (tokens + 15) / 16);
  Runner runner(*model.decoder, cache, {tokens, 1, tokens, tokens});
  std::vector<std::int32_t> blocks;
  cache.extend(blocks, tokens);
  StepSequence step;
  step.tokens = ids;
  step.blocks = blocks;
  step.all_logits = true;
  const std::span<const float> logits = runner.step({&step, 1});
  const std::size_t vocabulary = logits.size() / ids.size();
  std::vector<std::vector<double>> rows;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    double sum = 0;
    const auto row = logits.subspan(i * vocabulary, vocabulary);
    for (const float x : row) sum += std::exp(static_cast<double>(x));
    rows.emplace_back();
    for (const float x : row) rows.back().push_back(x - std::log(sum));
  }
  return rows;
}

TEST_F(EngineTest, ScoresPrompts) {
  const Ids& ids = prompt(7);
  const auto rows = log_softmax_rows(model(), ids);
  // A short chunk, several requests that compete for rows, and too little memory: preemption must not repeat
  // any.
  EngineOptions options;
  options.max_chunk_tokens = 50;
  options.kv_blocks = 44;
  const auto engine = make(options);
  std::vector<Request> requests(4, greedy(ids, 40));
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt_logprobs = 3;
    requests[i].cache_salt = std::to_string(i);  // else equal blocks are held once
  }
  requests[1].prompt_only = true;
  const std::vector<Answer> answers = ask(*engine, requests);
  EXPECT_GT(engine->stats().preemptions, 0);
  for (const Answer& answer : answers) {
    ASSERT_EQ(answer.prompt_logprobs.size(), ids.size() - 1);
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const TokenLogprobs& entry = answer.prompt_logprobs[i];
      EXPECT_EQ(entry.chosen.id, ids[i + 1]);
      EXPECT_NEAR(entry.chosen.logprob, rows[i][static_cast<std::size_t>(ids[i + 1])], 1e-4);
      ASSERT_EQ(entry.top.size(), 3);
      EXPECT_NEAR(entry.top[0].logprob, *std::max_element(rows[i].begin(), rows[i].end()), 1e-4);
    }
    EXPECT_EQ(answer.last.usage.cached_tokens, 0);
  }
  EXPECT_TRUE(answers[1].ids.empty());
  EXPECT_EQ(answers[1].last.reason, FinishReason::kLength);
  EXPECT_EQ(answers[0].ids, answers[3].ids);
}

TEST_F(EngineTest, ScoresAPromptOnceThoughPreemptedInIt) {
  EngineOptions options;
  options.max_chunk_tokens = 5;
  options.kv_blocks = 17;
  const auto engine = make(options);
  std::vector<Request> requests = {greedy(prompt(), 100), greedy(prompt(7), 3)};
  requests[0].prompt.resize(30);
  requests[1].prompt_logprobs = 0;
  const std::vector<Answer> answers = ask(*engine, requests);
  EXPECT_GT(engine->stats().preemptions, 0);
  EXPECT_EQ(answers[1].prompt_logprobs.size(), prompt(7).size() - 1);
  for (std::size_t i = 0; i + 1 < prompt(7).size(); ++i)
    ASSERT_EQ(answers[1].prompt_logprobs[i].chosen.id, prompt(7)[i + 1]);
  EXPECT_EQ(answers[1].ids, Ids(continuation(7).begin(), continuation(7).begin() + 3));
}

/// Allows tokens below a bound, then ends after some.
class BoundMask final : public TokenMask {
 public:
  BoundMask(std::int32_t bound, int tokens) : bound_(bound), left_(tokens) {}
  void fill(std::span<std::uint32_t> words) override {
    std::fill(words.begin(), words.end(), 0);
    for (std::int32_t id = 0; id < bound_; ++id) words[static_cast<std::size_t>(id) / 32] |= 1U << (id % 32);
  }
  void accept(std::int32_t id) override {
    EXPECT_LT(id, bound_);
    --left_;
  }
  bool finished() const override { return left_ == 0; }

 private:
  std::int32_t bound_;
  int left_;
};

TEST_F(EngineTest, AppliesMasks) {
  const auto engine = make();
  std::vector<Request> requests(2, greedy(prompt(), 200));
  requests[0].mask = std::make_shared<BoundMask>(100, 12);
  requests[0].sampling.logprobs = 1;
  const std::vector<Answer> answers = ask(*engine, requests);
  EXPECT_EQ(answers[0].ids.size(), 12);
  EXPECT_LT(*std::max_element(answers[0].ids.begin(), answers[0].ids.end()), 100);
  EXPECT_EQ(answers[0].last.reason, FinishReason::kStop);
  EXPECT_LT(answers[0].logprobs[0], -0.5F) << "of the model's own distribution, not of the masked one";
  EXPECT_EQ(Ids(answers[1].ids.begin(), answers[1].ids.begin() + 50),
            Ids(continuation().begin(), continuation().begin() + 50));
}

TEST_F(EngineTest, ASamplingErrorEndsOnlyItsRequest) {
  const auto engine = make();
  std::vector<Request> requests(3, greedy(prompt(), 20));
  requests[1].mask = std::make_shared<BoundMask>(0, 5);
  const std::vector<Answer> answers = ask(*engine, requests);
  EXPECT_EQ(answers[1].last.reason, FinishReason::kError);
  ASSERT_TRUE(answers[1].last.error.has_value());
  EXPECT_THAT(answers[1].last.error->what(), HasSubstr("-infinity"));
  EXPECT_TRUE(answers[1].ids.empty());
  for (const std::size_t i : {0, 2})
    EXPECT_EQ(answers[i].ids, Ids(continuation().begin(), continuation().begin() + 20));
  EXPECT_EQ(engine->stats().finished[static_cast<std::size_t>(FinishReason::kError)], 1);
}

/// A checkpoint whose embedding of one token is NaN.
class PoisonedSource final : public models::TensorSource {
 public:
  PoisonedSource(const std::string& name, std::int64_t token)
      : source_(std::filesystem::path(SABREWING_SOURCE_DIR) / "models" / name), token_(token) {}

  DType dtype_of(const std::string& name, std::initializer_list<DType> accepted) const override {
    return source_.dtype_of(name, accepted);
  }
  bool has(const std::string& name) const override { return source_.has(name); }
  TensorView take(const std::string& name, const Shape& shape,
                  std::initializer_list<DType> accepted) override {
    TensorView tensor = source_.take(name, shape, accepted);
    if (name != "model.embed_tokens.weight") return tensor;
    copy_.assign(tensor.bytes.begin(), tensor.bytes.end());
    const std::size_t row = copy_.size() / static_cast<std::size_t>(shape[0]);
    std::memset(copy_.data() + static_cast<std::size_t>(token_) * row, 0xFF, row);
    tensor.bytes = copy_;
    return tensor;
  }
  void release(const TensorView& tensor) override {
    if (tensor.bytes.data() != copy_.data()) source_.release(tensor);
  }
  void finish(const std::vector<std::string>& ignored) override { source_.finish(ignored); }

 private:
  models::CheckpointSource source_;
  std::int64_t token_;
  std::vector<std::byte> copy_;
};

TEST_F(EngineTest, NaNEndsOnlyItsRequestAndIsNotCached) {
  PoisonedSource source("mini-gpt-oss", 900);
  MiniModel poisoned("mini-gpt-oss", &source);
  EngineOptions options;
  options.kv_blocks = 30;
  Engine engine(poisoned.engine_model(), options);
  const MiniModel::Case& one = poisoned.cases[0];
  ASSERT_EQ(std::count(one.prompt.begin(), one.prompt.end(), 900), 0);
  std::vector<Request> requests(4, greedy(one.prompt, 20));
  requests[1].prompt.resize(20);
  requests[1].prompt.back() = 900;
  requests[1].prompt.resize(60, 5);  // the NaN is in the second block
  requests[2] = requests[1];
  requests[2].prompt_logprobs = 0;
  for (int round = 0; round < 2; ++round) {
    const std::vector<Answer> answers = ask(engine, requests);
    for (const std::size_t i : {1, 2}) {
      EXPECT_EQ(answers[i].last.reason, FinishReason::kError);
      ASSERT_TRUE(answers[i].last.error.has_value());
      EXPECT_EQ(answers[i].last.error->code(), ErrorCode::kCorrupt);
      EXPECT_LE(answers[i].last.usage.cached_tokens, 16) << "blocks of a failed request were used again";
    }
    for (const std::size_t i : {0, 3}) {
      EXPECT_EQ(answers[i].last.reason, FinishReason::kLength);
      EXPECT_EQ(answers[i].ids, Ids(one.greedy.begin(), one.greedy.begin() + 20));
    }
  }
}

TEST_F(EngineTest, AbortsAtAnyPointAndKeepsNothing) {
  EngineOptions options;
  options.kv_blocks = 80;
  options.max_num_seqs = 16;
  options.max_num_batched_tokens = 64;
  const auto engine = make(options);
  constexpr std::size_t kRequests = 400;
  Collector collector;
  std::atomic<std::size_t> submitted{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 2; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (std::size_t i = t; i < kRequests; i += 2) {
        Request request =
            greedy(prompt(random() % model().cases.size()), 1 + static_cast<std::int64_t>(random() % 30));
        request.priority = static_cast<std::int32_t>(random() % 3);
        EXPECT_TRUE(engine->submit(request, collector.sink(i)).refused.empty());
        ++submitted;
        if (random() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
      }
    });
  threads.emplace_back([&] {
    std::mt19937 random(99);
    while (!done) {
      engine->abort(random() % (submitted + 2));
      const EngineStats stats = engine->stats();
      EXPECT_LE(stats.running, 16);
      EXPECT_LE(stats.used_blocks, 80);
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    }
  });
  const auto answers = collector.wait(kRequests);
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(answers.size(), kRequests);
  for (const auto& [number, answer] : answers) EXPECT_EQ(answer.finishes, 1);
  EXPECT_TRUE(engine->drain(seconds(10)));
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.used_blocks, 0);
  EXPECT_EQ(stats.running + stats.waiting, 0);
  const std::uint64_t aborted = stats.finished[static_cast<std::size_t>(FinishReason::kAborted)];
  EXPECT_EQ(aborted + stats.finished[static_cast<std::size_t>(FinishReason::kLength)], kRequests);
  EXPECT_GT(aborted, 10);
  EXPECT_LT(aborted, kRequests);
  EXPECT_EQ(stats.end_to_end.total(), kRequests);
  std::printf("%zu requests, %llu aborted, %llu preemptions\n", kRequests,
              static_cast<unsigned long long>(aborted), static_cast<unsigned long long>(stats.preemptions));
}

/// Enough logits in one step for several sampling threads.
TEST_F(EngineTest, SamplesOnManyThreadsAsOnOne) {
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 256; ++i) {
    requests.push_back(
        greedy(Ids(prompt().begin(), prompt().begin() + 4 + static_cast<std::int64_t>(i % 3)), 6));
    requests.back().sampling.temperature = 1;
    requests.back().sampling.seed = i;
  }
  std::vector<std::vector<Answer>> answers;
  for (const int threads : {1, 4}) {
    EngineOptions options;
    options.sampling_threads = threads;
    options.prefix_caching = false;
    const auto engine = make(options);
    answers.push_back(ask(*engine, requests));
    EXPECT_LE(engine->stats().steps, 12) << "most steps have 256 rows of 1024 logits";
  }
  for (std::size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(answers[0][i].ids, answers[1][i].ids) << i;
}

TEST_F(EngineTest, RefusesWhenTheQueueIsFull) {
  EngineOptions options;
  options.max_num_seqs = 1;
  options.max_waiting = 3;
  const auto engine = make(options);
  Collector collector;
  std::size_t accepted = 0;
  std::string refused;
  while (refused.empty() && accepted < 10) {
    refused = engine->submit(greedy(prompt(), 20000), collector.sink(accepted)).refused;
    if (refused.empty()) ++accepted;
  }
  EXPECT_THAT(refused, HasSubstr("queue is full: 3 requests"));
  EXPECT_LE(accepted, 4);
  engine->stop();
  for (const auto& [number, answer] : collector.wait(accepted))
    EXPECT_EQ(answer.last.reason, FinishReason::kAborted);
}

TEST_F(EngineTest, DrainsAndStops) {
  const auto engine = make();
  Collector collector;
  engine->submit(greedy(prompt(), 20), collector.sink(0));
  engine->submit(greedy(prompt(), 30000), collector.sink(1));
  EXPECT_FALSE(engine->drain(milliseconds(100))) << "the second takes long";
  EXPECT_THAT(engine->submit(greedy(prompt(), 1), collector.sink(2)).refused, HasSubstr("shutting down"));
  engine->stop();
  const auto answers = collector.wait(2);
  EXPECT_EQ(answers.at(1).last.reason, FinishReason::kAborted);
  EXPECT_FALSE(answers.contains(2));
  EXPECT_TRUE(engine->drain(milliseconds(0)));
  EXPECT_EQ(engine->stats().used_blocks, 0);
  engine->stop();
  engine->abort(1);
  EXPECT_THAT(engine->submit(greedy(prompt(), 1), collector.sink(3)).refused, HasSubstr("shutting down"));
}

TEST_F(EngineTest, SinksMaySubmitAbortAndThrow) {
  const auto engine = make();
  Collector collector;
  RequestId first = 0;
  std::atomic<bool> once{false};
  const auto both = [&](const RequestUpdate& update) {
    collector.sink(0)(update);
    if (!once.exchange(true)) {
      engine->submit(greedy(prompt(), 3), collector.sink(1));
      engine->abort(update.id);
    }
  };
  first = engine->submit(greedy(prompt(), 30000), both).id;
  const auto answers = collector.wait(2);
  EXPECT_EQ(answers.at(0).last.id, first);
  EXPECT_EQ(answers.at(0).last.reason, FinishReason::kAborted);
  EXPECT_EQ(answers.at(1).ids.size(), 3);

  std::atomic<int> heard{0};
  engine->submit(greedy(prompt(), 30000), [&](const RequestUpdate&) {
    ++heard;
    throw std::runtime_error("broken pipe");
  });
  EXPECT_TRUE(engine->drain(seconds(20)));
  EXPECT_EQ(heard, 1);
  EXPECT_EQ(engine->stats().used_blocks, 0);
}

TEST_F(EngineTest, CountsWhatItDoes) {
  const auto engine = make();
  std::vector<Request> requests(3, greedy(prompt(), 10));
  const std::vector<Answer> answers = ask(*engine, requests);
  EXPECT_TRUE(engine->drain(seconds(10)));
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.generated_tokens, 30);
  EXPECT_EQ(stats.prompt_tokens, 3 * prompt().size());
  EXPECT_EQ(stats.time_to_first_token.total(), 3);
  EXPECT_EQ(stats.inter_token_latency.total(), 27);
  EXPECT_EQ(stats.time_per_output_token.total(), 3);
  EXPECT_EQ(stats.request_generated_tokens.sum(), 30);
  EXPECT_EQ(stats.finished[static_cast<std::size_t>(FinishReason::kLength)], 3);
  EXPECT_EQ(stats.step_tokens.sum(),
            static_cast<double>(stats.prompt_tokens + stats.generated_tokens - 3 - stats.prefix_hits));
  EXPECT_GT(stats.step_seconds, 0);
  const RequestTimes& times = answers[0].last.times;
  EXPECT_GT(times.prefill, 0);
  EXPECT_NEAR(times.first_token, times.queue + times.prefill, 1e-6);
  EXPECT_LE(times.first_token + times.decode, times.total);
}

TEST_F(EngineTest, MeasuresThroughput) {
  const auto engine = make();
  const ThroughputResult result = measure_throughput(
      *engine, {.requests = 10, .streams = 4, .prompt_tokens = 20, .output_tokens = 5}, {});
  EXPECT_EQ(result.requests, 10);
  EXPECT_EQ(result.prompt_tokens, 200);
  EXPECT_EQ(result.output_tokens, 50);
  EXPECT_GT(result.seconds, 0);
  const ThroughputResult cut =
      measure_throughput(*engine, {.requests = 100, .streams = 2, .prompt_tokens = 20, .output_tokens = 5},
                         [](std::int64_t n) { return n < 3; });
  EXPECT_LT(cut.requests, 10);
  EXPECT_THROW(measure_throughput(*engine, {.prompt_tokens = 1 << 20}, {}), Error);
}

TEST(MemoryShare, LeavesTheRestToTheCache) {
  const kernels::DeviceMemory before{90'000, 100'000};  // 10,000 are another process's
  const MemoryShare share(0.8, before);
  EXPECT_EQ(share.bytes(), 80'000u);
  EXPECT_EQ(share.cache_bytes({60'000, 100'000}, 5'000), 45'000u) << "weights 30,000, scratch 5,000";
  EXPECT_THROW(share.cache_bytes({15'000, 100'000}, 5'000), Error) << "weights and scratch fill it";
  EXPECT_THROW(MemoryShare(0.95, before), Error) << "more than is free";
  EXPECT_EQ(MemoryShare(1, {100'000, 100'000}).bytes(), 100'000u);
  for (const double bad : {0.0, -0.5, 1.01, std::nan("")})
    EXPECT_THROW(MemoryShare(bad, before), Error) << bad;
}

}  // namespace
}  // namespace sabrewing::engine
