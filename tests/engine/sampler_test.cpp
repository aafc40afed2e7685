#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>

#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"

namespace sabrewing::engine {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_logits(std::size_t count, unsigned seed, float spread = 2) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& x : logits) x = normal(generator);
  return logits;
}

SamplingParams seeded(std::uint64_t seed) {
  SamplingParams params;
  params.seed = seed;
  return params;
}

/// Makes `id` the next token of the answer.
void force(Sampler& sampler, std::int64_t vocabulary, std::int32_t id) {
  std::vector<float> logits(static_cast<std::size_t>(vocabulary), -kInf);
  logits[static_cast<std::size_t>(id)] = 0;
  ASSERT_EQ(sampler.sample(logits).id, id);
}

SamplingParams params_from(const Json& json) {
  SamplingParams params = seeded(1);
  const std::map<std::string, std::function<void(const Json&)>> fields = {
      {"temperature", [&](const Json& v) { params.temperature = v; }},
      {"top_k", [&](const Json& v) { params.top_k = v; }},
      {"top_p", [&](const Json& v) { params.top_p = v; }},
      {"min_p", [&](const Json& v) { params.min_p = v; }},
      {"repetition_penalty", [&](const Json& v) { params.repetition_penalty = v; }},
      {"presence_penalty", [&](const Json& v) { params.presence_penalty = v; }},
      {"frequency_penalty", [&](const Json& v) { params.frequency_penalty = v; }}};
  for (const auto& [name, value] : json.items()) fields.at(name)(value);
  return params;
}

TEST(Sampler, MatchesTransformersProcessors) {
  const std::string path = SABREWING_SOURCE_DIR "/tests/data/sampler/goldens.json";
  const Json goldens = parse_json(read_text_file(path, 1 << 20), path);
  ASSERT_GE(goldens["cases"].size(), 50u);
  for (const Json& golden : goldens["cases"]) {
    SCOPED_TRACE(golden["params"].dump());
    const auto logits = golden["logits"].get<std::vector<float>>();
    const auto vocabulary = static_cast<std::int64_t>(logits.size());
    Sampler sampler(params_from(golden["params"]), vocabulary);
    sampler.add_prompt(golden["prompt"].get<std::vector<std::int32_t>>());
    for (const std::int32_t id : golden["answer"].get<std::vector<std::int32_t>>())
      force(sampler, vocabulary, id);
    const auto kept = sampler.candidates(logits);
    std::map<std::int32_t, double> probabilities;
    double total = 0;
    for (const Candidate& candidate : kept) total += candidate.weight;
    for (const Candidate& candidate : kept) probabilities[candidate.id] = candidate.weight / total;
    ASSERT_EQ(probabilities.size(), kept.size());
    ASSERT_EQ(probabilities.size(), golden["ids"].size());
    for (std::size_t i = 0; i < golden["ids"].size(); ++i) {
      const std::int32_t id = golden["ids"][i];
      const double expected = golden["probabilities"][i];
      ASSERT_TRUE(probabilities.contains(id)) << id;
      ASSERT_NEAR(probabilities[id], expected, 3e-6 * expected + 1e-12) << id;
    }
  }
}

TEST(Sampler, PhiloxKnownAnswers) {
  // From the test vectors of the authors' Random123 library.
  using Words = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

void expect_chi_square(const SamplingParams& params, const std::vector<float>& logits,
                       const std::vector<double>& expected) {
  constexpr int kDraws = 100000;
  Sampler sampler(params, static_cast<std::int64_t>(logits.size()));
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<std::size_t>(sampler.sample(logits).id)];
  double statistic = 0;
  double rest_expected = 0;
  double rest_count = 0;
  int cells = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double wanted = expected[i] * kDraws;
    if (wanted == 0) {
      EXPECT_EQ(counts[i], 0) << i;
    }
    if (wanted < 10) {  // too few for the statistic: together
      rest_expected += wanted;
      rest_count += counts[i];
      continue;
    }
    statistic += (counts[i] - wanted) * (counts[i] - wanted) / wanted;
    ++cells;
  }
  if (rest_expected > 0) {
    statistic += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
    ++cells;
  }
  // The 99.99th percentile by Wilson and Hilferty's approximation.
  const double freedom = cells - 1;
  const double cube = 1 - 2 / (9 * freedom) + 3.719 * std::sqrt(2 / (9 * freedom));
  EXPECT_LT(statistic, freedom * cube * cube * cube) << cells << " cells";
}

TEST(Sampler, ChiSquareOfTheWholeDistribution) {
  const std::vector<float> logits = random_logits(200, 3);
  SamplingParams params = seeded(11);
  params.temperature = 0.8;
  std::vector<double> expected;
  double total = 0;
  for (const float x : logits) total += expected.emplace_back(std::exp(x / 0.8));
  for (double& p : expected) p /= total;
  expect_chi_square(params, logits, expected);
}

TEST(Sampler, ChiSquareAfterTopK) {
  const std::vector<float> logits = random_logits(1000, 4);
  SamplingParams params = seeded(12);
  params.top_k = 12;
  std::vector<float> sorted = logits;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  std::vector<double> expected;
  double total = 0;
  for (const float x : logits) total += expected.emplace_back(x >= sorted[11] ? std::exp(x) : 0.0);
  for (double& p : expected) p /= total;
  expect_chi_square(params, logits, expected);
}

TEST(Sampler, TopPOfALargeVocabularyEqualsSorting) {
  for (const float spread : {0.0f, 0.3f, 2.0f, 9.0f}) {
    const std::vector<float> logits = random_logits(50000, 5, spread);
    for (const double top_p : {0.001, 0.3, 0.9, 0.999, 0.99999999}) {
      SamplingParams params = seeded(1);
      params.top_p = top_p;
      Sampler sampler(params, 50000);
      const auto kept = sampler.candidates(logits);
      std::vector<double> weights;
      const double maximum = *std::max_element(logits.begin(), logits.end());
      double total = 0;
      for (const float x : logits) total += weights.emplace_back(std::exp(x - maximum));
      std::sort(weights.begin(), weights.end(), std::greater<>());
      double reached = 0;
      std::size_t count = 0;
      while (count < weights.size() && reached < top_p * total) reached += weights[count++];
      // Rounding of the sums can move the end by a few of many thousand almost equal tokens.
      EXPECT_NEAR(static_cast<double>(kept.size()), static_cast<double>(count),
                  1 + 1e-3 * static_cast<double>(count))
          << spread << " " << top_p;
      EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end(),
                                 [](const Candidate& a, const Candidate& b) { return a.weight > b.weight; }));
      EXPECT_EQ(kept[0].weight, 1.0f);
    }
  }
}

TEST(Sampler, EqualSeedsGiveEqualIdsWhateverRunsBeside) {
  const auto draw = [](Sampler& sampler, int step) {
    return sampler.sample(random_logits(300, static_cast<unsigned>(step), 1)).id;
  };
  Sampler alone(seeded(99), 300);
  std::vector<std::int32_t> expected;
  for (int i = 0; i < 200; ++i) expected.push_back(draw(alone, i));
  Sampler first(seeded(99), 300), second(seeded(100), 300), third(seeded(99), 300);
  std::vector<std::int32_t> a, b, c;
  for (int i = 0; i < 200; ++i) {
    a.push_back(draw(first, i));
    b.push_back(draw(second, i));
    if (i % 2 == 1)
      for (int j = i - 1; j <= i; ++j) c.push_back(draw(third, j));
  }
  EXPECT_EQ(a, expected);
  EXPECT_EQ(c, expected);
  EXPECT_NE(b, expected);
  Sampler random_one({}, 300), random_two({}, 300);
  std::vector<std::int32_t> one, two;
  for (int i = 0; i < 50; ++i) {
    one.push_back(draw(random_one, i));
    two.push_back(draw(random_two, i));
  }
  EXPECT_NE(one, two) << "no seed: a random one";
}

TEST(Sampler, GreedyTakesTheLowestOfTheLargest) {
  SamplingParams params;
  params.temperature = 0;
  Sampler sampler(params, 5);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 2, 3, 3}).id, 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-kInf, -kInf, -5, -kInf, -5}).id, 2);
  params.presence_penalty = 1.5;
  Sampler penalized(params, 3);
  EXPECT_EQ(penalized.sample(std::vector<float>{2, 1, 0}).id, 0);
  EXPECT_EQ(penalized.sample(std::vector<float>{2, 1, 0}).id, 1);
}

TEST(Sampler, ExtremeTemperatures) {
  SamplingParams params = seeded(5);
  params.temperature = 1e-300;
  Sampler cold(params, 3);
  EXPECT_EQ(cold.sample(std::vector<float>{1, 1.0000001f, -3}).id, 1);
  EXPECT_EQ(cold.sample(std::vector<float>{-1e38f, 3e38f, -3e38f}).id, 1);
  params.temperature = 1e300;
  Sampler hot(params, 3);
  const auto kept = hot.candidates(std::vector<float>{1, 100, -3});
  ASSERT_EQ(kept.size(), 3u);
  EXPECT_EQ(kept[2].weight, 1.0f);
}

TEST(Sampler, ImpossibleTokensAreNeverDrawn) {
  std::vector<float> logits(64, -kInf);
  logits[40] = -1;
  logits[63] = -2;
  Sampler sampler(seeded(8), 64);
  std::map<std::int32_t, int> counts;
  for (int i = 0; i < 1000; ++i) ++counts[sampler.sample(logits).id];
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_GT(counts[40], counts[63]);
}

TEST(Sampler, BadRowsAreErrors) {
  for (const double temperature : {0.0, 1.0}) {
    for (const std::int64_t top_k : {0, 2}) {
      SamplingParams params = seeded(1);
      params.temperature = temperature;
      params.top_k = top_k;
      params.logprobs = 2;
      for (const std::vector<float>& row : {std::vector<float>{-kInf, -kInf, -kInf, -kInf},
                                            {kNan, kNan, kNan, kNan},
                                            {0, 1, kNan, 2},
                                            {kNan, 1, 2, 3},
                                            {0, 1, 2, kNan},
                                            {0, kInf, 1, 2},
                                            {-kInf, kNan, -kInf, -kInf}}) {
        Sampler sampler(params, 4);
        try {
          sampler.sample(row);
          ADD_FAILURE() << testing::PrintToString(row);
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
          EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
        }
      }
      Sampler sampler(params, 4);
      EXPECT_THROW(sampler.sample(std::vector<float>{1, 2, 3}), Error) << "wrong size";
    }
  }
}

TEST(Sampler, LogprobsAreThoseOfTheRawLogits) {
  const std::vector<float> logits = random_logits(3000, 6);
  double sum = 0;
  for (const double x : logits) sum += std::exp(x);
  std::vector<std::int32_t> order(logits.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  SamplingParams params = seeded(3);
  params.temperature = 3;
  params.top_k = 5;
  params.presence_penalty = 2;
  params.logit_bias = {{order[0], -50}};
  for (const std::int64_t count : {0, 1, 20}) {
    params.logprobs = count;
    Sampler sampler(params, 3000);
    for (int i = 0; i < 5; ++i) {
      const SampledToken token = sampler.sample(logits);
      EXPECT_EQ(token.logprobs.chosen.id, token.id);
      EXPECT_NEAR(token.logprobs.chosen.logprob, logits[static_cast<std::size_t>(token.id)] - std::log(sum),
                  1e-5);
      ASSERT_EQ(token.logprobs.top.size(), static_cast<std::size_t>(count));
      for (std::size_t j = 0; j < token.logprobs.top.size(); ++j) {
        EXPECT_EQ(token.logprobs.top[j].id, order[j]);
        EXPECT_NEAR(token.logprobs.top[j].logprob, logits[static_cast<std::size_t>(order[j])] - std::log(sum),
                    1e-5);
      }
    }
  }
  params.logit_bias.clear();
  params.logprobs = 10;
  Sampler small(params, 3);
  const SampledToken token = small.sample(std::vector<float>{1, 1, -kInf});
  ASSERT_EQ(token.logprobs.top.size(), 3u) << "no more than the vocabulary";
  EXPECT_EQ(token.logprobs.top[0].id, 0) << "ties by id";
  EXPECT_NEAR(token.logprobs.top[1].logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(token.logprobs.top[2].logprob, -kInf);
}

TEST(Sampler, LogitBias) {
  SamplingParams params;
  params.temperature = 0;
  params.logit_bias = {{2, 5}, {0, -100}};
  Sampler sampler(params, 3);
  EXPECT_EQ(sampler.sample(std::vector<float>{50, 1, -3}).id, 2);
}

TEST(Sampler, EndTokensWaitForMinTokens) {
  SamplingParams params;
  params.temperature = 0;
  params.min_tokens = 2;
  params.stop_token_ids = {3};
  const std::vector<std::int32_t> ends = {1};
  Sampler sampler(params, 4, ends);
  const std::vector<float> logits = {0, 5, 1, 4};
  EXPECT_EQ(sampler.sample(logits).id, 2);
  EXPECT_EQ(sampler.sample(logits).id, 2);
  EXPECT_EQ(sampler.sample(logits).id, 1);
  Sampler nothing_left(params, 4, ends);
  EXPECT_THROW(nothing_left.sample(std::vector<float>{-kInf, 5, -kInf, 4}), Error);
}

TEST(SamplingParams, RefusesByName) {
  const std::map<std::string, std::vector<std::function<void(SamplingParams&)>>> cases = {
      {"temperature",
       {[](SamplingParams& p) { p.temperature = -1; }, [](SamplingParams& p) { p.temperature = kNan; },
        [](SamplingParams& p) { p.temperature = kInf; }}},
      {"top_k", {[](SamplingParams& p) { p.top_k = -2; }}},
      {"top_p",
       {[](SamplingParams& p) { p.top_p = 0; }, [](SamplingParams& p) { p.top_p = 1.01; },
        [](SamplingParams& p) { p.top_p = kNan; }}},
      {"min_p",
       {[](SamplingParams& p) { p.min_p = -0.1; }, [](SamplingParams& p) { p.min_p = 1.1; },
        [](SamplingParams& p) { p.min_p = kNan; }}},
      {"repetition_penalty",
       {[](SamplingParams& p) { p.repetition_penalty = 0; },
        [](SamplingParams& p) { p.repetition_penalty = kNan; },
        [](SamplingParams& p) { p.repetition_penalty = kInf; }}},
      {"presence_penalty",
       {[](SamplingParams& p) { p.presence_penalty = 2.1; },
        [](SamplingParams& p) { p.presence_penalty = kNan; }}},
      {"frequency_penalty", {[](SamplingParams& p) { p.frequency_penalty = -2.1; }}},
      {"logit_bias",
       {[](SamplingParams& p) { p.logit_bias = {{0, 101}}; },
        [](SamplingParams& p) { p.logit_bias = {{0, kNan}}; },
        [](SamplingParams& p) { p.logit_bias = {{10, 1}}; },
        [](SamplingParams& p) { p.logit_bias = {{-1, 1}}; }}},
      {"logprobs", {[](SamplingParams& p) { p.logprobs = -1; }}},
      {"stop", {[](SamplingParams& p) { p.stop = {"a", ""}; }}},
      {"stop_token_ids", {[](SamplingParams& p) { p.stop_token_ids = {10}; }}},
      {"max_tokens", {[](SamplingParams& p) { p.max_tokens = 0; }}},
      {"min_tokens",
       {[](SamplingParams& p) { p.min_tokens = -1; },
        [](SamplingParams& p) {
          p.min_tokens = 9;
          p.max_tokens = 8;
        }}}};
  for (const auto& [field, changes] : cases) {
    for (const auto& change : changes) {
      SamplingParams params;
      change(params);
      try {
        Sampler sampler(params, 10);
        ADD_FAILURE() << field;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
        EXPECT_THAT(error.what(), testing::HasSubstr(field + " "));
      }
    }
  }
  SamplingParams edge;
  edge.temperature = 0;
  edge.top_k = -1;
  edge.top_p = 1;
  edge.min_p = 1;
  edge.presence_penalty = -2;
  edge.validate();
  Sampler sampler(edge, 10);
  EXPECT_THROW(sampler.add_prompt(std::vector<std::int32_t>{10}), Error);
  EXPECT_THROW(Sampler({}, 10, std::vector<std::int32_t>{-1}), Error);
}

}  // namespace
}  // namespace sabrewing::engine
