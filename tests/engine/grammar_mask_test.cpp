// Generation under a grammar, by a real model: every answer holds, alone and in a batch.
#include "engine/grammar_mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine_fixture.h"

namespace sabrewing::engine {
namespace {

using testing::HasSubstr;

class GrammarMaskTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!text::grammar_supported()) GTEST_SKIP() << "built without xgrammar";
    model_ = &MiniModel::get(GetParam());
    compiler_ = std::make_unique<text::GrammarCompiler>(*model_->tokenizer, model_->eos_ids,
                                                        model_->decoder->spec().vocabulary);
  }

  std::shared_ptr<const text::Grammar> grammar(text::GrammarSpec::Kind kind, std::string text) {
    text::GrammarSpec spec;
    spec.kind = kind;
    spec.text = std::move(text);
    return compiler_->compile(spec);
  }

  Request request(std::uint64_t seed, double temperature, std::shared_ptr<TokenMask> mask) const {
    Request made;
    made.prompt = model_->cases[0].prompt;
    made.sampling.max_tokens = 200;
    made.sampling.seed = seed;
    made.sampling.temperature = temperature;
    made.mask = std::move(mask);
    return made;
  }

  MiniModel* model_ = nullptr;
  std::unique_ptr<text::GrammarCompiler> compiler_;
};

INSTANTIATE_TEST_SUITE_P(Models, GrammarMaskTest, testing::Values("mini-qwen3", "mini-gpt-oss"));

TEST_P(GrammarMaskTest, SampledAnswersMatchTheSchema) {
  const auto schema = grammar(text::GrammarSpec::Kind::kJsonSchema, R"({"type":"object","properties":{
      "answer":{"type":"integer","minimum":0,"maximum":999},
      "unit":{"enum":["apples","years"]},
      "steps":{"type":"array","items":{"type":"string","maxLength":12},"maxItems":3}},
      "required":["answer","unit","steps"],"additionalProperties":false})");
  Engine engine(model_->engine_model(), {});
  std::vector<Request> requests;
  for (std::uint64_t seed = 0; seed < 4; ++seed)
    requests.push_back(request(seed, seed == 0 ? 0 : 1.5, std::make_shared<GrammarMask>(schema)));
  const std::vector<Answer> answers = ask(engine, requests);
  int ended = 0;
  for (const Answer& answer : answers) {
    ASSERT_FALSE(answer.last.error.has_value()) << answer.last.error->what();
    if (answer.last.reason != FinishReason::kStop) continue;  // spaces up to the limit
    ++ended;
    const Json value = parse_json(answer.text, "answer");
    EXPECT_EQ(value.size(), 3U) << answer.text;
    EXPECT_TRUE(value.at("answer").is_number_integer() && value.at("answer") >= 0 &&
                value.at("answer") <= 999);
    EXPECT_TRUE(value.at("unit") == "apples" || value.at("unit") == "years");
    EXPECT_LE(value.at("steps").size(), 3U);
  }
  EXPECT_GE(ended, 2);

  // The same request alone gives the same answer.
  const Answer alone = ask(engine, request(3, 1.5, std::make_shared<GrammarMask>(schema)));
  EXPECT_EQ(alone.ids, answers[3].ids);
}

TEST_P(GrammarMaskTest, AppliesAfterTheMarker) {
  const auto yes = grammar(text::GrammarSpec::Kind::kRegex, "yes|no");
  Engine engine(model_->engine_model(), {});
  const Ids free = ask(engine, request(1, 0, nullptr)).ids;
  ASSERT_GE(free.size(), 8U);
  const Ids marker(free.begin() + 4, free.begin() + 6);
  const Answer answer =
      ask(engine, request(1, 0, std::make_shared<GrammarMask>(yes, marker, model_->eos_ids)));
  EXPECT_EQ(answer.last.reason, FinishReason::kStop);
  ASSERT_GE(answer.ids.size(), 7U);
  EXPECT_EQ(Ids(answer.ids.begin(), answer.ids.begin() + 6), Ids(free.begin(), free.begin() + 6));
  const std::string rest = model_->tokenizer->decode(std::span(answer.ids).subspan(6), false);
  EXPECT_TRUE(rest == "yes" || rest == "no") << rest;
}

TEST_P(GrammarMaskTest, EndTokensWaitForTheMarker) {
  const auto yes = grammar(text::GrammarSpec::Kind::kRegex, "yes");
  Engine engine(model_->engine_model(), {});
  const std::int32_t never = model_->eos_ids.front();
  const Answer answer =
      ask(engine, request(1, 0, std::make_shared<GrammarMask>(yes, Ids{never}, model_->eos_ids)));
  EXPECT_EQ(answer.last.reason, FinishReason::kLength);
  EXPECT_EQ(answer.ids.size(), 200U);
}

TEST_P(GrammarMaskTest, AnAmbiguousGrammarEndsOneRequestOnly) {
  text::GrammarLimits hasty;
  hasty.free_seconds = 0.02;
  hasty.max_mean_step_seconds = 1e-6;
  text::GrammarCompiler compiler(*model_->tokenizer, model_->eos_ids, model_->decoder->spec().vocabulary,
                                 hasty);
  text::GrammarSpec spec;
  spec.kind = text::GrammarSpec::Kind::kRegex;
  spec.text = "(.*)*(.*)*\x01";
  Engine engine(model_->engine_model(), {});
  Request slow = request(1, 1, std::make_shared<GrammarMask>(compiler.compile(spec)));
  slow.sampling.max_tokens = 2000;
  const std::vector<Answer> answers = ask(engine, {slow, request(1, 0, nullptr)});
  ASSERT_TRUE(answers[0].last.error.has_value());
  EXPECT_THAT(answers[0].last.error->what(), HasSubstr("ambiguous"));
  EXPECT_FALSE(answers[1].last.error.has_value());
  EXPECT_EQ(answers[1].ids, ask(engine, request(1, 0, nullptr)).ids);
}

}  // namespace
}  // namespace sabrewing::engine
