#include "engine/stop.h"

#include <gtest/gtest.h>

#include <random>

namespace sabrewing::engine {
namespace {

struct Outcome {
  std::string text;
  std::optional<std::string> matched;
  bool operator==(const Outcome&) const = default;
};

/// The definition: of all occurrences, the one that ends first; of those that end there, the longest.
Outcome oracle(const std::string& text, const std::vector<std::string>& stop) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::optional<std::string> best;
    for (const std::string& s : stop)
      if (!s.empty() && s.size() <= end && text.compare(end - s.size(), s.size(), s) == 0 &&
          (!best || s.size() > best->size()))
        best = s;
    if (best) return {text.substr(0, end - best->size()), best};
  }
  return {text, {}};
}

Outcome run(const std::vector<std::string>& pieces, const std::vector<std::string>& stop) {
  StopChecker checker(stop);
  Outcome outcome;
  std::string seen;
  for (const std::string& piece : pieces) {
    seen += piece;
    outcome.text += checker.push(piece);
    // What was handed out never needs to be taken back, and nothing is held back without a reason.
    EXPECT_TRUE(seen.starts_with(outcome.text));
    if (!checker.stopped()) {
      const std::string held = seen.substr(outcome.text.size());
      bool reason = held.empty();
      for (const std::string& s : stop) reason |= s.size() > held.size() && s.starts_with(held);
      EXPECT_TRUE(reason) << "holds back \"" << held << '"';
    }
  }
  outcome.text += checker.flush();
  outcome.matched = checker.matched();
  EXPECT_EQ(checker.stopped(), outcome.matched.has_value());
  EXPECT_EQ(checker.flush(), "");
  return outcome;
}

TEST(StopChecker, EverySplitGivesTheSame) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {{"hello world", {"wor"}},
                                                                               {"aabaabaaab", {"aabaaab"}},
                                                                               {"abababac", {"ababac"}},
                                                                               {"abcd", {"bcd", "c"}},
                                                                               {"xxabc", {"abc", "bc"}},
                                                                               {"no match", {"zzz"}},
                                                                               {"ends with sto", {"stop"}},
                                                                               {"\n\nUser:", {"\n\nUser:"}},
                                                                               {"a\xc3\xa9zz", {"\xc3\xa9z"}},
                                                                               {"", {"a"}},
                                                                               {"abc", {}},
                                                                               {"aaaa", {"", "aaa"}}};
  for (const auto& [text, stop] : cases) {
    const Outcome expected = oracle(text, stop);
    const std::size_t cuts = text.empty() ? 0 : text.size() - 1;
    for (std::size_t mask = 0; mask < std::size_t{1} << cuts; ++mask) {
      std::vector<std::string> pieces(1);
      for (std::size_t i = 0; i < text.size(); ++i) {
        pieces.back() += text[i];
        if (i < cuts && (mask >> i & 1) != 0) pieces.emplace_back();
      }
      ASSERT_EQ(run(pieces, stop), expected) << text << " mask " << mask;
    }
  }
}

TEST(StopChecker, RandomTextsOverTwoLetters) {
  std::mt19937 generator(9);
  const auto word = [&](std::size_t longest) {
    std::string text(generator() % (longest + 1), 'a');
    for (char& c : text) c = generator() % 2 == 0 ? 'a' : 'b';
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stop(generator() % 4);
    for (std::string& s : stop) s = word(9);
    std::vector<std::string> pieces(generator() % 12);
    std::string text;
    for (std::string& piece : pieces) text += piece = word(5);
    const Outcome expected = oracle(text, stop);
    stopped += expected.matched.has_value();
    ASSERT_EQ(run(pieces, stop), expected) << text;
  }
  EXPECT_GT(stopped, 5000);
  EXPECT_LT(stopped, 19000);
}

TEST(StopChecker, NothingFollowsAMatch) {
  StopChecker checker({"END"});
  EXPECT_EQ(checker.push("a EN"), "a ");
  EXPECT_EQ(checker.push("D b END"), "");
  EXPECT_TRUE(checker.stopped());
  EXPECT_EQ(checker.matched(), "END");
  EXPECT_EQ(checker.push("more"), "");
  EXPECT_EQ(checker.flush(), "");
}

TEST(StopChecker, LongRepetitiveStopIsLinear) {
  StopChecker checker({std::string(100000, 'a') + "b"});
  std::string out;
  for (int i = 0; i < 30; ++i) out += checker.push(std::string(10000, 'a'));
  EXPECT_EQ(out.size(), 200000u);
  out += checker.push("c");
  EXPECT_EQ(out.size(), 300001u);
}

}  // namespace
}  // namespace sabrewing::engine
