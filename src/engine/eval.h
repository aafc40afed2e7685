#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/generator.h"

namespace sabrewing::engine {

/// A GSM8K-style question: the gold answer follows "#### ".
struct EvalQuestion {
  std::string question;
  std::string answer;
};

/// Reads a .jsonl file with `question` and `answer` per line; errors name file and line.
std::vector<EvalQuestion> read_questions(const std::filesystem::path& file);

/// The answer filters of lm-evaluation-harness' gsm8k task. Both return "[invalid]" without a match.
std::string extract_strict(const std::string& response);    ///< the number after the first "#### "
std::string extract_flexible(const std::string& response);  ///< the last number
/// Its exact match: commas, dollar signs, everything before "#### " and a final dot removed, case ignored.
bool exact_match(const std::string& extracted, const std::string& answer);

/// A share with its standard error, sqrt(p (1 - p) / (n - 1)).
struct Score {
  double value = 0;
  double standard_error = 0;
};
Score make_score(std::int64_t right, std::int64_t total);

struct EvalResult {
  std::int64_t questions = 0;
  std::int64_t strict = 0;
  std::int64_t flexible = 0;
  std::int64_t generated_tokens = 0;
  double seconds = 0;
};

/// Scores one more answer of `tokens` tokens.
void add_answer(EvalResult& result, const EvalQuestion& question, const std::string& text,
                std::int64_t tokens);

/// Asks every question through the chat template, zero-shot and greedy, with at most `max_tokens` tokens.
/// `done` is told the count after each answer; returning false stops early.
EvalResult evaluate(LoadedModel& model, Generator& generator, const std::vector<EvalQuestion>& questions,
                    std::int64_t max_tokens, const std::function<bool(const EvalResult&)>& done);

}  // namespace sabrewing::engine
