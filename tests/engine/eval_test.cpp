#include "engine/eval.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/error.h"

namespace sabrewing::engine {
namespace {

// Filters and metric of lm-evaluation-harness' gsm8k task, worked by hand from its regular expressions.
TEST(Eval, StrictTakesTheFirstMarkedNumber) {
  EXPECT_EQ(extract_strict("so 3 + 4 = 7.\n#### 7"), "7");
  EXPECT_EQ(extract_strict("#### -1,234.5 and #### 9"), "-1,234.5");
  EXPECT_EQ(extract_strict("the answer is 7"), "[invalid]");
  EXPECT_EQ(extract_strict("####7"), "[invalid]");
}

TEST(Eval, FlexibleTakesTheLastNumber) {
  EXPECT_EQ(extract_flexible("it is 5, then 12"), "12");
  EXPECT_EQ(extract_flexible("it costs $1,200.50 in all"), "$1,200.50");
  EXPECT_EQ(extract_flexible("only 7"), "7");
  EXPECT_EQ(extract_flexible("#### -3"), "-3");
  EXPECT_EQ(extract_flexible("none"), "[invalid]");
}

TEST(Eval, ExactMatchIgnoresWhatTheTaskIgnores) {
  EXPECT_TRUE(exact_match("$1,200.", "work\n#### 1200"));
  EXPECT_TRUE(exact_match("41", "24 + 8 = 32. 32 + 9 = 41.\n#### 41"));
  EXPECT_FALSE(exact_match("[invalid]", "x\n#### 41"));
  EXPECT_FALSE(exact_match("41.0", "x\n#### 41"));
}

TEST(Eval, StandardErrorIsTheSampleOne) {
  const Score score = make_score(9, 10);
  EXPECT_DOUBLE_EQ(score.value, 0.9);
  EXPECT_NEAR(score.standard_error, std::sqrt(0.9 * 0.1 / 9), 1e-12);
  EXPECT_EQ(make_score(1, 1).standard_error, 0);
}

TEST(Eval, NamesTheLineOfABadQuestion) {
  const std::string file = testing::TempDir() + "questions.jsonl";
  std::ofstream(file) << "{\"question\": \"a\", \"answer\": \"#### 1\"}\n\n{\"question\": \"b\"}\n";
  try {
    read_questions(file);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("questions.jsonl line 3: field \"answer\""), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace sabrewing::engine
