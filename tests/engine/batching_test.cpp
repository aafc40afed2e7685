// Whatever a request shares its steps with, its tokens and their log-probabilities are the same to the bit.
#include <gtest/gtest.h>

#include <cstdio>

#include "engine_fixture.h"

namespace sabrewing::engine {
namespace {

class Batching : public testing::TestWithParam<std::string> {
 protected:
  static constexpr std::int64_t kTokens = 16;

  /// The model's own prompts and random ones of 1 to 100 tokens; the second half begins as the first does.
  std::vector<Request> requests() const {
    std::mt19937 random(7);
    std::vector<Request> requests;
    for (const MiniModel::Case& one : model_.cases) requests.push_back(greedy(one.prompt, kTokens));
    while (requests.size() < 32) {
      Ids prompt;
      for (std::size_t i = 0, n = 1 + random() % 100; i < n; ++i)
        prompt.push_back(static_cast<std::int32_t>(random() % 1000));
      requests.push_back(greedy(prompt, kTokens));
    }
    for (std::size_t i = 0; i < 32; ++i) {
      requests.push_back(requests[i]);
      for (int extra = 0; extra < 5; ++extra)
        requests.back().prompt.push_back(static_cast<std::int32_t>(random() % 1000));
    }
    for (Request& request : requests) request.sampling.logprobs = 0;
    return requests;
  }

  std::vector<Answer> alone() {
    EngineOptions options;
    options.max_num_seqs = 1;
    options.prefix_caching = false;
    Engine engine(model_.engine_model(), options);
    std::vector<Answer> answers;
    for (const Request& request : requests()) answers.push_back(ask(engine, request));
    return answers;
  }

  static void expect_same(const std::vector<Answer>& answers, const std::vector<Answer>& expected) {
    ASSERT_EQ(answers.size(), expected.size());
    for (std::size_t i = 0; i < answers.size(); ++i) {
      EXPECT_EQ(answers[i].ids, expected[i].ids) << "request " << i;
      EXPECT_EQ(answers[i].logprobs, expected[i].logprobs) << "request " << i;
      EXPECT_EQ(answers[i].text, expected[i].text) << "request " << i;
      EXPECT_EQ(answers[i].last.reason, FinishReason::kLength) << "request " << i;
    }
  }

  MiniModel& model_ = MiniModel::get(GetParam());
};

TEST_P(Batching, TokensDoNotDependOnTheBatch) {
  const std::vector<Request> all = requests();
  ASSERT_EQ(all.size(), 64);
  const std::vector<Answer> expected = alone();
  for (std::size_t i = 0; i < model_.cases.size(); ++i) {
    const Ids& greedy = model_.cases[i].greedy;
    const std::size_t count = std::min<std::size_t>(kTokens, greedy.size());
    EXPECT_EQ(Ids(expected[i].ids.begin(), expected[i].ids.begin() + static_cast<std::int64_t>(count)),
              Ids(greedy.begin(), greedy.begin() + static_cast<std::int64_t>(count)))
        << "transformers, case " << i;
  }

  EngineOptions options;
  options.prefix_caching = false;
  {
    SCOPED_TRACE("batched with 63 others");
    Engine engine(model_.engine_model(), options);
    expect_same(ask(engine, all), expected);
    EXPECT_GT(engine.stats().generated_tokens, 8 * engine.stats().steps) << "nothing was batched";
  }
  {
    SCOPED_TRACE("chunked by 16");
    EngineOptions chunked = options;
    chunked.max_chunk_tokens = 16;
    Engine engine(model_.engine_model(), chunked);
    expect_same(ask(engine, all), expected);
  }
  {
    SCOPED_TRACE("steps of 16 tokens");
    EngineOptions small = options;
    small.max_num_seqs = 7;
    small.max_num_batched_tokens = 16;
    Engine engine(model_.engine_model(), small);
    expect_same(ask(engine, all), expected);
  }
  {
    SCOPED_TRACE("with a prefix cache");
    EngineOptions cached = options;
    cached.prefix_caching = true;
    cached.block_size = 8;
    Engine engine(model_.engine_model(), cached);
    expect_same(ask(engine, all), expected);
    const std::uint64_t hits = engine.stats().prefix_hits;
    EXPECT_GT(hits, 0);
    const std::vector<Answer> again = ask(engine, all);
    expect_same(again, expected);
    std::int64_t reported = 0;
    for (const Answer& answer : again) reported += answer.last.usage.cached_tokens;
    EXPECT_EQ(static_cast<std::uint64_t>(reported), engine.stats().prefix_hits - hits);
    EXPECT_GT(reported, 64 * 50);
  }
  for (const bool prefix_caching : {false, true}) {
    SCOPED_TRACE(prefix_caching ? "preempted, with a prefix cache" : "preempted");
    EngineOptions tight = options;
    tight.prefix_caching = prefix_caching;
    tight.kv_blocks = 40;
    tight.block_size = 8;
    Engine engine(model_.engine_model(), tight);
    expect_same(ask(engine, all), expected);
    EXPECT_GT(engine.stats().preemptions, 3);
    EXPECT_TRUE(engine.drain(std::chrono::seconds(10)));
    EXPECT_EQ(engine.stats().used_blocks, 0);
    std::printf("%s: %llu preemptions, %llu steps\n", GetParam().c_str(),
                static_cast<unsigned long long>(engine.stats().preemptions),
                static_cast<unsigned long long>(engine.stats().steps));
  }
}

/// Sampling with a seed depends on the request alone, too.
TEST_P(Batching, SeededSamplesDoNotDependOnTheBatch) {
  std::vector<Request> all = requests();
  all.resize(24);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].sampling.temperature = 1.5;
    all[i].sampling.top_p = 0.95;
    all[i].sampling.repetition_penalty = 1.1;
    all[i].sampling.seed = i / 2;
  }
  EngineOptions one;
  one.max_num_seqs = 1;
  std::vector<Answer> expected;
  {
    Engine engine(model_.engine_model(), one);
    for (const Request& request : all) expected.push_back(ask(engine, request));
  }
  EngineOptions tight;
  tight.kv_blocks = 32;
  tight.block_size = 8;
  Engine engine(model_.engine_model(), tight);
  expect_same(ask(engine, all), expected);
  EXPECT_GT(engine.stats().preemptions, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, Batching, testing::Values("mini-qwen3", "mini-qwen3-moe", "mini-gpt-oss"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace sabrewing::engine
