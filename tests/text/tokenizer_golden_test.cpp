// Ids and texts of small tokenizers against those of HF `tokenizers`; scripts/make_tokenizer_goldens.py
// makes the files and describes them.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>

#include "core/json.h"
#include "core/mapped_file.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace sabrewing::text {
namespace {

Json read_data(const std::string& name) {
  const auto path = std::filesystem::path(SABREWING_SOURCE_DIR) / "tests/data/tokenizer" / name;
  return parse_json(read_text_file(path, 1 << 26), name);
}

std::vector<std::int32_t> unpack(const std::string& text) {
  static const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    ids.push_back(static_cast<std::int32_t>(digits.find(text[i]) << 6 | digits.find(text[i + 1])));
  }
  return ids;
}

Tokenizer load(const Json& json) { return Tokenizer::from_json(json.dump(), "golden"); }

/// The same tokenizer with its merges in the other of the two forms.
Json other_merge_form(Json json) {
  for (Json& merge : json["model"]["merges"]) {
    if (merge.is_array()) {
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
    } else {
      const auto text = merge.get<std::string>();
      const std::size_t space = text.find(' ');
      merge = Json::array({text.substr(0, space), text.substr(space + 1)});
    }
  }
  return json;
}

struct Count {
  int right = 0;
  int all = 0;
};

Count check(const Tokenizer& tokenizer, const Json& golden, const Json& strings) {
  Count count;
  std::size_t index = golden["first"];
  for (const Json& ids : golden["ids"]) {
    const auto text = strings.at(index).get<std::string>();
    index += golden["step"].get<std::size_t>();
    const auto got = tokenizer.encode(text, golden["add_special_tokens"], golden["parse_special"]);
    const bool equal = got == unpack(ids);
    if (!equal && count.all - count.right < 5) {
      ADD_FAILURE() << golden["name"] << ": " << strings.at(index - golden["step"].get<std::size_t>())
                    << "\n got " << Json(got) << "\n for " << Json(unpack(ids));
    }
    count.right += equal;
    ++count.all;
  }
  return count;
}

class TokenizerGolden : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    json_ = read_data(std::string(GetParam()) + ".json");
    golden_ = read_data(std::string(GetParam()) + ".golden.json");
    strings_ = read_data("strings.json");
  }

  Json json_, golden_, strings_;
};

TEST_P(TokenizerGolden, EncodesEqually) {
  ASSERT_GE(strings_["strings"].size(), 3000U);
  Count sum;
  const auto run = [&](const Json& golden, const Json& strings) {
    const Count count = check(load(json_.patch(golden["patch"])), golden, strings);
    EXPECT_EQ(count.right, count.all) << golden["name"];
    sum.right += count.right;
    sum.all += count.all;
  };
  for (const Json& golden : golden_["cases"]) run(golden, strings_["strings"]);
  for (const Json& golden : golden_["own"]["cases"]) run(golden, golden_["own"]["strings"]);
  std::printf("%s: %d of %d encodings equal\n", GetParam(), sum.right, sum.all);
  EXPECT_GT(sum.all, 3000);
}

TEST_P(TokenizerGolden, MergesInEitherForm) {
  const Json other = other_merge_form(json_);
  ASSERT_NE(other["model"]["merges"][0].type(), json_["model"]["merges"][0].type());
  const Count count = check(load(other), golden_["cases"][0], strings_["strings"]);
  EXPECT_EQ(count.right, count.all);
  EXPECT_GT(count.all, 3000);
}

/// Characters younger than the tables of PCRE2 and utf8proc may be cut elsewhere: the text must still
/// come back whole, equal ids are only counted.
TEST_P(TokenizerGolden, YoungCodePointsSurvive) {
  const Tokenizer tokenizer = load(json_);
  Count count;
  for (std::size_t i = 0; i < strings_["young"].size(); ++i) {
    const auto text = strings_["young"][i].get<std::string>();
    const auto ids = tokenizer.encode(text);
    std::string decoded = tokenizer.decode(ids, false);
    if (decoded.starts_with(' ')) decoded.erase(0, 1);  // add_prefix_space
    EXPECT_EQ(decoded, text);
    count.right += ids == unpack(golden_["young"][i]);
    ++count.all;
  }
  std::printf("%s: %d of %d encodings of young code points equal\n", GetParam(), count.right, count.all);
  EXPECT_GT(count.all, 40);
}

TEST_P(TokenizerGolden, DecodesEqually) {
  const Tokenizer tokenizer = load(json_);
  int equal = 0;
  for (const Json& entry : golden_["decode"]) {
    const auto ids = unpack(entry[0]);
    for (const bool skip : {false, true}) {
      const std::string text = tokenizer.decode(ids, skip);
      EXPECT_EQ(Json(text), entry[skip ? 2 : 1]) << Json(ids);
      equal += text == entry[skip ? 2 : 1].get<std::string>();
    }
  }
  std::printf("%s: %d of %zu decodings equal\n", GetParam(), equal, 2 * golden_["decode"].size());
  EXPECT_GE(equal, 300);
}

TEST_P(TokenizerGolden, DetokenizerEqualsDecode) {
  const Tokenizer tokenizer = load(json_);
  unsigned state = 1;
  const auto random = [&](unsigned below) {
    state = state * 1664525U + 1013904223U;
    return static_cast<std::int32_t>((state >> 8) % below);
  };
  for (const bool skip : {false, true}) {
    Detokenizer detokenizer(tokenizer, skip);
    for (int round = 0; round < 3000; ++round) {
      std::vector<std::int32_t> ids;
      std::string pieces;
      const unsigned below = round % 2 == 0 ? 256 : static_cast<unsigned>(tokenizer.vocab_size());
      for (int length = random(24); length >= 0; --length) {
        ids.push_back(random(below));
        const std::string piece = detokenizer.push(ids.back());
        ASSERT_NO_THROW(static_cast<void>(Json(piece).dump())) << "not UTF-8";
        pieces += piece;
      }
      pieces += detokenizer.flush();
      ASSERT_EQ(pieces, tokenizer.decode(ids, skip)) << Json(ids);
    }
  }
}

/// Every prefix of a text that ends with a whole character is shown as soon as it is there.
TEST_P(TokenizerGolden, DetokenizerShowsWholeCharactersAtOnce) {
  const Tokenizer tokenizer = load(json_);
  Detokenizer detokenizer(tokenizer, false);
  for (const Json& entry : strings_["strings"]) {
    std::string shown;
    std::string bytes;
    for (const std::int32_t id : tokenizer.encode(entry.get<std::string>())) {
      bytes += tokenizer.token_bytes(id);
      shown += detokenizer.push(id);
      ASSERT_LT(bytes.size() - shown.size(), 4U);
      ASSERT_EQ(bytes.compare(0, shown.size(), shown), 0);
    }
    ASSERT_EQ(detokenizer.flush(), "");
    ASSERT_EQ(shown, bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, TokenizerGolden,
                         testing::Values("qwen", "o200k", "deepseek", "gpt2", "cl100k"),
                         [](const auto& golden) { return std::string(golden.param); });

}  // namespace
}  // namespace sabrewing::text
