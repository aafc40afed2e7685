// The tokenizer's interface, hostile files and hostile texts.
#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "core/error.h"
#include "core/json.h"
#include "text/byte_level.h"
#include "text/detokenizer.h"

namespace sabrewing::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

/// Ids 0 to 255 are the bytes, then merges of a's, and two added tokens.
Json small_json() {
  Json json = Json::parse(R"({
    "version": "1.0",
    "added_tokens": [
      {"id": 259, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
      {"id": 260, "content": "<t>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {}, "merges": ["a a", "aa aa", "aaaa aaaa"]}})");
  Json& vocab = json["model"]["vocab"];
  for (int byte = 0; byte < 256; ++byte) vocab[to_byte_level(std::string(1, static_cast<char>(byte)))] = byte;
  vocab["aa"] = 256;
  vocab["aaaa"] = 257;
  vocab["aaaaaaaa"] = 258;
  return json;
}

Tokenizer small() { return Tokenizer::from_json(small_json().dump(), "small"); }

/// The message that loading `json` ends with; "accepted" when it does not.
std::string refusal(const std::string& json, ErrorCode code) {
  try {
    Tokenizer::from_json(json, "t.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "accepted";
}

struct Hostile {
  const char* pointer;  ///< what to replace
  Json value;
  const char* message;
};

void PrintTo(const Hostile& hostile, std::ostream* out) { *out << hostile.pointer << " = " << hostile.value; }

std::string refusal(const Hostile& hostile, ErrorCode code) {
  Json json = small_json();
  json[Json::json_pointer(hostile.pointer)] = hostile.value;
  return refusal(json.dump(), code);
}

TEST(Tokenizer, EncodesAndDecodes) {
  const Tokenizer tokenizer = small();
  EXPECT_THAT(tokenizer.encode("aaa b<s><t>"), ElementsAre(256, 'a', ' ', 'b', 259, 260));
  EXPECT_THAT(tokenizer.encode("<s><t>", false, false), ElementsAre('<', 's', '>', 260));
  EXPECT_THAT(tokenizer.encode(""), ElementsAre());
  EXPECT_EQ(tokenizer.decode(Ids{259, 'h', 0xC3, 0xA9, 0xC3, 260}, true), "h\u00e9\uFFFD<t>");
  EXPECT_EQ(tokenizer.vocab_size(), 261);
  EXPECT_EQ(tokenizer.token_id("aaaa"), 257);
  EXPECT_EQ(tokenizer.token_id("\u0120"), ' ');
  EXPECT_EQ(tokenizer.token_id("<s>"), 259);
  EXPECT_EQ(tokenizer.token_id("nothing"), std::nullopt);
  EXPECT_EQ(tokenizer.token_id("\xff"), std::nullopt);
  EXPECT_EQ(tokenizer.token_bytes(' '), " ");
  EXPECT_TRUE(tokenizer.is_special(259));
  EXPECT_FALSE(tokenizer.is_special(260));
  EXPECT_FALSE(tokenizer.is_special(-1));
}

TEST(Tokenizer, RefusesBadTextAndIds) {
  const Tokenizer tokenizer = small();
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message([&] { tokenizer.encode("ab\xED\xA0\x80"); }),
            "[tokenizer] the text is not valid UTF-8: byte 0xed at position 2");
  EXPECT_EQ(message([&] { tokenizer.encode("ab\xC3"); }),
            "[tokenizer] the text is not valid UTF-8: byte 0xc3 at position 2");
  EXPECT_EQ(message([&] { tokenizer.decode(Ids{1, -1}, false); }),
            "[tokenizer] token id -1 is not in [0, 261)");
  EXPECT_EQ(message([&] { tokenizer.decode(Ids{261}, true); }),
            "[tokenizer] token id 261 is not in [0, 261)");
  Detokenizer detokenizer(tokenizer, false);
  EXPECT_EQ(message([&] { detokenizer.push(1 << 30); }),
            "[tokenizer] token id 1073741824 is not in [0, 261)");
}

TEST(Tokenizer, HolesInTheVocabularyAreNotTokens) {
  Json json = small_json();
  json["added_tokens"] = Json::array();
  json["model"]["vocab"]["zz"] = 300;
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "t.json");
  EXPECT_EQ(tokenizer.vocab_size(), 301);
  EXPECT_FALSE(tokenizer.has_token(299));
  EXPECT_TRUE(tokenizer.has_token(300));
  EXPECT_THROW(tokenizer.token_bytes(299), Error);
}

TEST(Tokenizer, ReadsFilesAndNamesThem) {
  const auto path = std::filesystem::path(testing::TempDir()) / "sabrewing_tokenizer_test.json";
  std::ofstream(path) << small_json();
  EXPECT_EQ(Tokenizer::from_file(path).vocab_size(), 261);
  std::ofstream(path) << "{";
  EXPECT_THAT([&] { Tokenizer::from_file(path); },
              testing::ThrowsMessage<Error>(HasSubstr("sabrewing_tokenizer_test.json")));
  std::filesystem::remove(path);
  EXPECT_THAT([&] { Tokenizer::from_file(path); },
              testing::Throws<Error>(testing::Property(&Error::code, ErrorCode::kNotFound)));
}

TEST(Tokenizer, RefusesCorruptFields) {
  const Hostile cases[] = {
      {"/model", 3, "t.json: model: expected an object, found number"},
      {"/model/vocab", Json::array(), "model.vocab: expected an object, found array"},
      {"/model/vocab/zz", -1, "model.vocab: token id -1 is not in [0, 2097152)"},
      {"/model/vocab/zz", 7, "model.vocab: token id 7 occurs twice, also for \""},
      {"/model/vocab/zz", 1ULL << 63, "token id 9223372036854775808 is not in"},
      {"/model/vocab/zz", 1e3, "model.vocab: expected a token id, found number"},
      {"/model/vocab/zz", "1", "expected a token id, found string"},
      {"/model/merges", Json::object(), "model.merges: expected an array, found object"},
      {"/model/merges/1", "a z z",
       "model.merges[1]: expected two tokens with one space between, found \"a z z\""},
      {"/model/merges/1", "aaaa", "model.merges[1]: expected two tokens"},
      {"/model/merges/1", "a qq", "model.merges[1]: \"qq\" is not in the vocabulary"},
      {"/model/merges/1", "a b", "model.merges[1]: \"ab\" is not in the vocabulary"},
      {"/model/merges/1", Json::array({"a", "b"}), "model.merges[1]: expected a string, found array"},
      {"/model/merges/0", Json::array({"a"}), "model.merges[0]: expected a pair of strings"},
      {"/model/ignore_merges", 1, "model.ignore_merges: expected true or false, found number"},
      {"/added_tokens/0/id", -5, "added_tokens[0].id: token id -5 is not in"},
      {"/added_tokens/0/id", 300, "added_tokens[0].id: 300 for \"<s>\", expected 259"},
      {"/added_tokens/1/id", 259, "added_tokens[1].id: 259 for \"<t>\", expected 260"},
      {"/added_tokens/1/content", "<s>", "added_tokens[1].content: \"<s>\" occurs twice"},
      {"/added_tokens/1/content", "", "added_tokens[1].content: 0 bytes long, expected 1 to 1024"},
      {"/added_tokens/1/content", std::string(2000, 'x'), "added_tokens[1].content: 2000 bytes long"},
      {"/added_tokens/1/content", "aaaa", "added_tokens[1].id: 260 for \"aaaa\", expected 257"},
      {"/added_tokens/1", Json::object(), "added_tokens[1]: \"id\" is missing"},
      {"/pre_tokenizer/pretokenizers", 1, "pre_tokenizer.pretokenizers: expected an array, found number"},
      {"/pre_tokenizer/pretokenizers/0/pattern", Json::object(),
       "pretokenizers[0].pattern: expected {\"Regex\": ...}"},
      {"/pre_tokenizer/pretokenizers/0/behavior", "Isolate", "behavior: \"Isolate\" is no behavior of Split"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "(a\n", "pattern.Regex: ( without ) in regex \"(a?\""},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "a)", ") without ("},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "[a", "[ without ]"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "*", "nothing to repeat"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\", "unexpected end"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\x{110000}", "escape of no character"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", std::string(1 << 17, 'a'), "131072 bytes, at most"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "(?:a{9999}){9999}", "regex does not compile"},
      {"/post_processor", Json::parse(R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},
        {"Sequence":{"id":"A"}}],"special_tokens":{"<s>":{"ids":[900]}}})"),
       "ids[0]: no token has id 900"},
  };
  for (const Hostile& hostile : cases) {
    EXPECT_THAT(refusal(hostile, ErrorCode::kCorrupt), HasSubstr(hostile.message))
        << testing::PrintToString(hostile);
  }
}

TEST(Tokenizer, RefusesUnknownComponentsByName) {
  const auto type = [](const char* name) { return Json{{"type", name}}; };
  const Hostile cases[] = {
      {"/version", "2.0", "t.json: version \"2.0\" is not 1.0"},
      {"/truncation", Json{{"max_length", 8}}, "truncation is not supported"},
      {"/padding", Json::object(), "padding is not supported"},
      {"/model/type", "Unigram", "model type \"Unigram\" is not supported; supported: BPE"},
      {"/model/dropout", 0.5, "model.dropout other than 0 is not supported"},
      {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix \"</w>\" is not supported"},
      {"/normalizer", type("Bert"), "normalizer type \"Bert\" is not supported; supported: Lowercase, NFC"},
      {"/decoder", type("Metaspace"), "decoder type \"Metaspace\" is not supported; supported: ByteLevel"},
      {"/decoder", nullptr, "decoder must be one ByteLevel step, found 0 steps"},
      {"/pre_tokenizer", nullptr, "pre_tokenizer without a ByteLevel step is not supported"},
      {"/pre_tokenizer/pretokenizers/0", type("Metaspace"),
       "pre_tokenizer.pretokenizers[0] type \"Metaspace\" is not supported"},
      {"/pre_tokenizer/pretokenizers/2", type("Digits"), "pretokenizers[1] must be the last step"},
      {"/pre_tokenizer/pretokenizers/0/pattern", Json{{"String", ""}}, "pattern.String is empty"},
      {"/post_processor", type("BertProcessing"), "post_processor type \"BertProcessing\" is not supported"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\w+", "regex construct \\w is not supported"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "(a)\\1", "regex construct \\1 is not supported"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "(?i)a",
       "regex construct \"(?i)...\" is not supported"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "(?<n>a)",
       "regex construct \"(?<n...\" is not supported"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\p{Alphabetic}", "\\p{Alphabetic} is not supported"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "[a-z&&[^x]]", "&& inside a class is not supported"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "[[:alpha:]]", "[ inside a class"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "(?i:stra\u00dfe)", "st, ff, fi or fl in (?i:)"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "(?i:\u00df)", "a character outside ASCII in (?i:)"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "a{2}+", "a repeat after {n,m}"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", std::string(200, '('), "that many nested groups"},
  };
  for (const Hostile& hostile : cases) {
    EXPECT_THAT(refusal(hostile, ErrorCode::kUnsupported), HasSubstr(hostile.message))
        << testing::PrintToString(hostile);
  }
  Json json = small_json();
  json["model"]["vocab"].erase("x");
  json["added_tokens"] = Json::array();
  EXPECT_THAT(refusal(json.dump(), ErrorCode::kUnsupported),
              HasSubstr("model.vocab without a token for byte 0x78"));
}

TEST(Tokenizer, RefusesHostileJson) {
  EXPECT_THAT(refusal("", ErrorCode::kCorrupt), HasSubstr("t.json"));
  EXPECT_THAT(refusal("[]", ErrorCode::kCorrupt), HasSubstr("t.json: expected an object, found array"));
  EXPECT_THAT(refusal(std::string(100000, '['), ErrorCode::kCorrupt), HasSubstr("nested deeper"));
  EXPECT_THAT(refusal(R"({"model":1,"model":2})", ErrorCode::kCorrupt), HasSubstr("duplicate key"));
  EXPECT_THAT(refusal(R"({"model":"\ud800"})", ErrorCode::kCorrupt), HasSubstr("t.json"));
  const std::string whole = small_json().dump();
  for (std::size_t size = 0; size < whole.size(); size += 37) {
    EXPECT_NE(refusal(whole.substr(0, size), ErrorCode::kCorrupt), "accepted");
  }
}

double seconds_of(const auto& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Generous bounds: quadratic behavior would take minutes.
TEST(Tokenizer, LongTextsTakeLinearTime) {
  const Tokenizer tokenizer = small();
  const std::size_t size = 1 << 20;
  Ids ids;
  const double word = seconds_of([&] { ids = tokenizer.encode(std::string(size, 'a')); });
  EXPECT_EQ(ids, Ids(size / 8, 258));
  std::printf("a word of 1 MiB: %.3f s\n", word);
  EXPECT_LT(word, 10);
  std::string words;
  for (std::size_t i = 0; words.size() < size; ++i) words += "aaaa" + std::to_string(i) + "  ";
  std::printf("words, 1 MiB: %.3f s\n", seconds_of([&] { ids = tokenizer.encode(words); }));
  EXPECT_EQ(tokenizer.decode(ids, false), words);

  Json json = small_json();
  json["normalizer"] = {{"type", "NFC"}};
  std::string marks = "a";
  for (int i = 0; i < 100000; ++i) marks += "\u0301";
  for (int i = 0; i < 100000; ++i) marks += "\u0323";
  const Tokenizer composing = Tokenizer::from_json(json.dump(), "t.json");
  EXPECT_LT(seconds_of([&] { composing.encode(marks); }), 10);

  for (Json& token : json["added_tokens"]) token["rstrip"] = token["lstrip"] = true;
  json["added_tokens"][1]["content"] = " ";
  const Tokenizer stripping = Tokenizer::from_json(json.dump(), "t.json");
  EXPECT_LT(seconds_of([&] { ids = stripping.encode("<s>" + std::string(size, ' ')); }), 10);
  EXPECT_EQ(ids.size(), size + 1);
}

TEST(Tokenizer, CatastrophicPatternsEndWithAnError) {
  for (const char* pattern : {"(a+)+b", "(?:a|aa)*c", "a*[ab]*[abd]*c", "(?:(?:a|b)*)*c", "(?=(?:a+)+b)"}) {
    Json json = small_json();
    json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern;
    const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "t.json");
    const double seconds = seconds_of([&] {
      EXPECT_THAT([&] { tokenizer.encode(std::string(3000, 'a') + "xbc"); },
                  testing::ThrowsMessage<Error>(
                      HasSubstr("t.json: pre_tokenizer.pretokenizers[0].pattern.Regex: the regex")))
          << pattern;
    });
    EXPECT_LT(seconds, 60) << pattern;
  }
}

TEST(Tokenizer, NormalizationCannotExplode) {
  Json json = small_json();
  Json steps = Json::array();
  for (int i = 0; i < 60; ++i)
    steps.push_back(Json::parse(R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})"));
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "t.json");
  EXPECT_THROW(tokenizer.encode("a"), Error);
  EXPECT_THAT(tokenizer.encode("b"), ElementsAre('b'));
}

TEST(Tokenizer, ThreadsShareOne) {
  const Tokenizer tokenizer = small();
  const Ids expected = tokenizer.encode("aaaaa <s> \u00e9 aaa");
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int& count : wrong) {
    threads.emplace_back([&count, &expected, tokenizer] {
      for (int i = 0; i < 500; ++i) count += tokenizer.encode("aaaaa <s> \u00e9 aaa") != expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace sabrewing::text
