// Grammars against the verdict of another JSON Schema implementation, by random answers, and with hostile
// input.
#include "text/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <random>
#include <set>
#include <thread>

#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"

namespace sabrewing::text {
namespace {

using Kind = GrammarSpec::Kind;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::filesystem::path kRoot = SABREWING_SOURCE_DIR;

GrammarSpec spec(Kind kind, std::string text) {
  GrammarSpec made;
  made.kind = kind;
  made.text = std::move(text);
  return made;
}

GrammarSpec choice(std::vector<std::string> choices) {
  GrammarSpec made;
  made.kind = Kind::kChoice;
  made.choices = std::move(choices);
  return made;
}

std::string nested(std::size_t depth, std::string_view open, std::string_view middle,
                   std::string_view close) {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += open;
  text += middle;
  for (std::size_t i = 0; i < depth; ++i) text += close;
  return text;
}

TEST(GrammarBuildTest, SaysWhatIsMissing) {
  if (grammar_supported()) GTEST_SKIP() << "this build has xgrammar";
  const Tokenizer tokenizer = Tokenizer::from_file(kRoot / "models/mini-qwen3/tokenizer.json");
  try {
    GrammarCompiler compiler(tokenizer, {}, tokenizer.vocab_size());
    FAIL() << "made";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), HasSubstr("SABREWING_WITH_XGRAMMAR"));
  }
}

class GrammarTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!grammar_supported()) GTEST_SKIP() << "built without xgrammar";
    tokenizer_.emplace(Tokenizer::from_file(kRoot / "models" / GetParam() / "tokenizer.json"));
    for (const char* name : {"<|im_end|>", "<|endoftext|>", "<|return|>"})
      if (const auto id = tokenizer_->token_id(name)) stops_.push_back(*id);
    ASSERT_FALSE(stops_.empty());
    compiler_ = std::make_unique<GrammarCompiler>(*tokenizer_, stops_, vocabulary());
  }

  /// Padded as checkpoints do it.
  std::int64_t vocabulary() const { return tokenizer_->vocab_size() + 37; }

  std::vector<std::int32_t> allowed(GrammarMatcher& matcher) const {
    std::vector<std::uint32_t> words(static_cast<std::size_t>(vocabulary() + 31) / 32);
    matcher.fill(words);
    std::vector<std::int32_t> ids;
    for (std::int32_t id = 0; id < static_cast<std::int32_t>(words.size()) * 32; ++id)
      if ((words[static_cast<std::size_t>(id) / 32] >> (id % 32) & 1U) != 0) ids.push_back(id);
    return ids;
  }

  bool is_stop(std::int32_t id) const { return std::find(stops_.begin(), stops_.end(), id) != stops_.end(); }

  /// Whether the whole text is an answer.
  bool matches(const Grammar& grammar, std::string_view text) const {
    const auto matcher = grammar.matcher();
    for (const std::int32_t id : tokenizer_->encode(text, false, false)) {
      const std::vector<std::int32_t> ids = allowed(*matcher);
      const bool may = std::find(ids.begin(), ids.end(), id) != ids.end();
      EXPECT_EQ(matcher->accept(id), may) << "mask and matcher disagree in " << text;
      if (!may) return false;
    }
    const bool complete = matcher->finished();
    return complete || matcher->accept(stops_.front());
  }

  /// An answer of uniformly drawn tokens; after `patience` tokens those are preferred that end something.
  std::string walk(const Grammar& grammar, std::uint32_t seed, int patience = 60) const {
    std::mt19937 random(seed);
    const auto matcher = grammar.matcher();
    std::vector<std::int32_t> ids;
    for (int step = 0; step < 4000; ++step) {
      std::vector<std::int32_t> may = allowed(*matcher);
      EXPECT_FALSE(may.empty()) << "a dead end after " << tokenizer_->decode(ids, false);
      if (may.empty()) return "";
      for (const std::int32_t id : may)
        EXPECT_TRUE(id < vocabulary() && (tokenizer_->has_token(id) || is_stop(id)));
      if (step >= patience) {
        const auto closing = std::stable_partition(may.begin(), may.end(), [&](std::int32_t id) {
          return is_stop(id) || tokenizer_->token_bytes(id).find_first_of("\"}]") != std::string_view::npos;
        });
        if (closing != may.begin()) may.erase(closing, may.end());
      }
      const std::int32_t id = may[random() % may.size()];
      EXPECT_TRUE(matcher->accept(id)) << "token " << id << " after " << tokenizer_->decode(ids, false);
      if (is_stop(id)) {
        EXPECT_TRUE(matcher->finished());
        break;
      }
      EXPECT_FALSE(tokenizer_->is_special(id));
      ids.push_back(id);
      if (matcher->finished()) break;
      EXPECT_LT(step, 3999) << "no end of " << tokenizer_->decode(ids, false);
    }
    return tokenizer_->decode(ids, false);
  }

  std::string refusal(const GrammarSpec& wanted) const {
    try {
      compiler_->compile(wanted);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
      EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos);
      EXPECT_LT(std::string_view(error.what()).size(), 800U);
      return error.what();
    }
    return "accepted";
  }

  std::optional<Tokenizer> tokenizer_;
  std::vector<std::int32_t> stops_;
  std::unique_ptr<GrammarCompiler> compiler_;
};

INSTANTIATE_TEST_SUITE_P(Tokenizers, GrammarTest, testing::Values("mini-qwen3", "mini-gpt-oss"));

TEST_P(GrammarTest, AgreesWithJsonschema) {
  const OrderedJson rows =
      parse_ordered_json(read_text_file(kRoot / "tests/data/grammar/schemas.json", 1 << 20), "goldens");
  for (const OrderedJson& row : rows) {
    const auto grammar = compiler_->compile(spec(Kind::kJsonSchema, row["schema"].dump()));
    EXPECT_TRUE(grammar->unenforced().empty());
    for (const std::string text : row["valid"])
      EXPECT_TRUE(matches(*grammar, text)) << row["schema"] << " " << text;
    for (const std::string text : row["invalid"])
      EXPECT_FALSE(matches(*grammar, text)) << row["schema"] << " " << text;
  }
}

TEST_P(GrammarTest, RandomAnswersMatchTheSchema) {
  struct Case {
    const char* schema;
    std::function<bool(const Json&)> holds;
  };
  const auto short_string = [](const Json& v) { return v.is_string(); };
  const std::vector<Case> cases = {
      {R"({"type":"object"})", [](const Json& v) { return v.is_object(); }},
      {R"({"type":"string","minLength":1,"maxLength":5})", short_string},
      {R"({"type":"string","maxLength":400})", short_string},
      {R"({"type":"integer","minimum":-3,"maximum":250})",
       [](const Json& v) { return v.is_number_integer() && v >= -3 && v <= 250; }},
      {R"({"type":"array","items":{"type":"boolean"},"minItems":2,"maxItems":3})",
       [](const Json& v) {
         return v.is_array() && v.size() >= 2 && v.size() <= 3 &&
                std::all_of(v.begin(), v.end(), [](const Json& one) { return one.is_boolean(); });
       }},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"enum":["x","ß\n"]},"c":{"type":"number"}},
           "required":["b"],"additionalProperties":false})",
       [](const Json& v) {
         const std::set<std::string> known = {"a", "b", "c"};
         for (const auto& item : v.items())
           if (known.count(item.key()) == 0) return false;
         return v.contains("b") && (v["b"] == "x" || v["b"] == "ß\n") &&
                (!v.contains("a") || v["a"].is_number_integer()) && (!v.contains("c") || v["c"].is_number());
       }},
      {R"({"anyOf":[{"type":"null"},{"type":"string","pattern":"^[^\"a]{2}.[ -#]$"}]})",
       [](const Json& v) { return v.is_null() || v.is_string(); }},
  };
  for (const Case& one : cases) {
    const auto grammar = compiler_->compile(spec(Kind::kJsonSchema, one.schema));
    for (std::uint32_t seed = 0; seed < 25; ++seed) {
      const std::string text = walk(*grammar, seed);
      const Json value = Json::parse(text);  // names may be repeated
      EXPECT_TRUE(one.holds(value)) << one.schema << " " << text;
    }
  }
}

TEST_P(GrammarTest, Choice) {
  const std::vector<std::string> choices = {"yes", "no", "ye\"s\\", "日本\n語", "\x01\x7f"};
  const auto grammar = compiler_->compile(choice(choices));
  std::set<std::string> seen;
  for (std::uint32_t seed = 0; seed < 60; ++seed) seen.insert(walk(*grammar, seed));
  EXPECT_EQ(seen, std::set<std::string>(choices.begin(), choices.end()));
  EXPECT_FALSE(matches(*grammar, "ye"));
  EXPECT_FALSE(matches(*grammar, "yess"));
  EXPECT_TRUE(matches(*compiler_->compile(choice({"", "a"})), ""));
}

TEST_P(GrammarTest, EndIsForcedWhereNothingCanFollow) {
  const auto grammar = compiler_->compile(choice({"abc"}));
  const auto matcher = grammar->matcher();
  const std::vector<std::int32_t> ids = tokenizer_->encode("abc", false, false);
  for (const std::int32_t id : ids) {
    EXPECT_FALSE(matcher->finished());
    EXPECT_TRUE(matcher->accept(id));
  }
  EXPECT_TRUE(matcher->finished());
  EXPECT_FALSE(matcher->accept(ids.front()));

  // Where more may follow, the stop tokens are among what may come, and nothing is forced.
  const auto open = compiler_->compile(spec(Kind::kRegex, "a+"))->matcher();
  const std::int32_t a = tokenizer_->encode("a", false, false).front();
  EXPECT_FALSE(open->accept(stops_.front()));
  EXPECT_TRUE(open->accept(a));
  EXPECT_FALSE(open->finished());
  const std::vector<std::int32_t> may = allowed(*open);
  for (const std::int32_t id : stops_) EXPECT_NE(std::find(may.begin(), may.end(), id), may.end());
  EXPECT_TRUE(open->accept(stops_.back()));
  EXPECT_TRUE(open->finished());
}

TEST_P(GrammarTest, RegexAndEbnf) {
  const auto regex = compiler_->compile(spec(Kind::kRegex, "(ab|[0-9]{2,3}|é)+x?"));
  for (const char* text : {"ab", "12", "123", "éab99x"}) EXPECT_TRUE(matches(*regex, text)) << text;
  for (const char* text : {"", "x", "1", "abxx", "e"}) EXPECT_FALSE(matches(*regex, text)) << text;
  const auto ebnf = compiler_->compile(spec(Kind::kEbnf, "root ::= sum\nsum ::= [0-9]+ (\" + \" sum)?"));
  EXPECT_TRUE(matches(*ebnf, "1 + 22 + 3"));
  EXPECT_FALSE(matches(*ebnf, "1 + "));
}

TEST_P(GrammarTest, StructuralTag) {
  const std::string special = tokenizer_->token_id("<|im_start|>") ? "<|im_start|>" : "<|start|>";
  const auto grammar =
      compiler_->compile(spec(Kind::kStructuralTag, R"({"type":"structural_tag","format":{"type":"sequence",
    "elements":[{"type":"const_string","value":"<call>"},
                {"type":"json_schema","json_schema":{"type":"object","properties":{"x":{"type":"string","maxLength":3}},
                 "required":["x"],"additionalProperties":false}},
                {"type":"const_string","value":"</call>"}]}})"));
  EXPECT_TRUE(matches(*grammar, "<call>{\"x\": \"abc\"}</call>"));
  EXPECT_FALSE(matches(*grammar, "<call>{\"x\": \"abcd\"}</call>"));
  EXPECT_FALSE(matches(*grammar, "<call>{\"x\": \"a\tb\"}</call>")) << "a raw control character in a string";
  EXPECT_FALSE(matches(*grammar, "{\"x\": \"abc\"}"));

  // A special token is only matched by name or id, never by its spelling.
  const auto token = compiler_->compile(spec(
      Kind::kStructuralTag,
      R"({"type":"structural_tag","format":{"type":"sequence","elements":[{"type":"const_string","value":"a"},{"type":"token","token":")" +
          special + R"("},{"type":"const_string","value":"b"}]}})"));
  const auto matcher = token->matcher();
  EXPECT_TRUE(matcher->accept(tokenizer_->encode("a", false, false).front()));
  EXPECT_THAT(allowed(*matcher), testing::ElementsAre(*tokenizer_->token_id(special)));
  EXPECT_FALSE(matches(*compiler_->compile(choice({"a"})), "a" + special));
}

TEST_P(GrammarTest, RefusesWhatItCannotEnforce) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"type":"array","uniqueItems":true})", "uniqueItems"},
      {R"({"type":"array","contains":{"const":1}})", "contains"},
      {R"({"type":"object","properties":{"a":{"not":{"type":"null"}}}})", "#/properties/a: \"not\""},
      {R"({"type":"string","minLength":2,"pattern":"^a+$"})", "minLength"},
      {R"({"type":"string","pattern":"^(?=a)b$"})", "ookahead"},
      {R"({"type":"string","pattern":"^a$|^b$"})", "nchor"},
      {R"({"type":"string","pattern":"^\"$"})", "JSON escapes"},
      {R"({"type":"string","pattern":"^\\n$"})", "JSON escapes"},
      {R"({"type":"string","pattern":"^[^é]$"})", "JSON escapes"},
      {R"({"type":"object","patternProperties":{"\\\\":{}}})", "JSON escapes"},
      {R"({"type":"string","format":"iri"})", "format \"iri\""},
      {R"({"anyOf":[{"type":"integer"},{"type":"string"}],"minimum":3})", "\"minimum\" beside \"anyOf\""},
      {R"({"type":"object","properties":{"a":{}},"anyOf":[{"required":["a"]}]})", "beside \"anyOf\""},
      {R"({"$ref":"#/$defs/a","$defs":{"a":{"type":"string"}},"maxLength":3})", "beside \"$ref\""},
      {R"({"allOf":[{"type":"integer"},{"minimum":3}]})", "allOf"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "oneOf"},
      {R"({"type":"number","multipleOf":0.1})", "multipleOf"},
      {R"({"minimum":3})", "\"minimum\" without \"type\""},
      {R"({"enum":["a",1],"type":"string"})", "\"type\" beside \"enum\""},
      {R"({"type":"object","minProperties":2,"additionalProperties":true})", "minProperties"},
      {R"({"$ref":"http://example.org/schema"})", "URI"},
  };
  for (const auto& [schema, named] : cases) {
    GrammarSpec wanted = spec(Kind::kJsonSchema, schema);
    EXPECT_THAT(refusal(wanted), AllOf(HasSubstr("enforced"), HasSubstr(named))) << schema;
    wanted.lenient = true;
    const auto grammar = compiler_->compile(wanted);
    ASSERT_FALSE(grammar->unenforced().empty()) << schema;
    EXPECT_THAT(grammar->unenforced().front(), HasSubstr(named));
  }
  EXPECT_EQ(refusal(spec(Kind::kJsonSchema,
                         R"({"type":"array","uniqueItems":false,"title":"t","description":"d"})")),
            "accepted");
}

TEST_P(GrammarTest, MalformedInputIsNamed) {
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{")), HasSubstr("malformed JSON"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "[]")), HasSubstr("object or bool"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"type\":\"strin\"}")), HasSubstr("strin"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"type\":7}")), Not("accepted"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"type\":\"string\",\"format\":7}")), Not("accepted"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"type\":\"string\",\"minLength\":\"x\"}")),
              HasSubstr("minLength"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}")),
              HasSubstr("maxLength"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"type\":\"object\",\"required\":[1]}")), Not("accepted"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"enum\":[]}")), HasSubstr("enum"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "false")), Not("accepted"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"$ref\":\"#/$defs/none\"}")), HasSubstr("none"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"$ref\":\"#\"}")), HasSubstr("no answer matches"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"type\":\"string\",\"pattern\":\"(\"}")), Not("accepted"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, "{\"const\":\"\\ud800\"}")), Not("accepted"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "(a")), HasSubstr("parenthesis"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "[z-a]")), HasSubstr("larger"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "a{3,1}")), HasSubstr("3 > 1"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "(?=a)b")), HasSubstr("Lookahead"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "(a)\\1")), HasSubstr("Backreference"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "a^b")), HasSubstr("^"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, std::string("a\0b", 3))), HasSubstr("null"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "\xff")), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "\\c\xf4\x8f\xbf\xbf")), HasSubstr("malformed"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "a{\xf4\x8f\xbf\xbf}")), HasSubstr("malformed"));
  EXPECT_THAT(refusal(spec(Kind::kEbnf, "x ::= \"a\"")), HasSubstr("root"));
  EXPECT_THAT(refusal(spec(Kind::kEbnf, "root ::= \"a")), HasSubstr("line 1"));
  EXPECT_THAT(refusal(spec(Kind::kEbnf, "root ::= b")), Not("accepted"));
  EXPECT_THAT(refusal(spec(Kind::kEbnf, "root ::= root")), HasSubstr("no answer matches"));
  EXPECT_THAT(refusal(spec(Kind::kEbnf, "")), Not("accepted"));
  EXPECT_THAT(refusal(spec(Kind::kStructuralTag, "{}")), Not("accepted"));
  EXPECT_THAT(refusal(spec(Kind::kStructuralTag,
                           R"({"type":"structural_tag","format":{"type":"token","token":"<none>"}})")),
              HasSubstr("<none>"));
  EXPECT_THAT(refusal(spec(Kind::kStructuralTag,
                           R"({"type":"structural_tag","format":{"type":"token","token":99999999}})")),
              HasSubstr("vocabulary"));
  EXPECT_THAT(refusal(choice({})), HasSubstr("nothing"));
  EXPECT_THAT(refusal(choice({std::string("a\0", 2)})), HasSubstr("null"));
}

TEST_P(GrammarTest, HostileSizesEndQuickly) {
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, nested(100000, "{\"items\":", "{}", "}"))), Not("accepted"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, nested(2000, "{\"items\":", "{}", "}"))),
              HasSubstr("deeper than 64"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, nested(60, "{\"type\":\"array\",\"items\":", "{}", "}"))),
              "accepted");
  EXPECT_THAT(refusal(spec(Kind::kRegex, nested(1500, "(", "a", ")"))), HasSubstr("deeper"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, std::string(100000, 'a'))), HasSubstr("bytes"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "((a{1,900}){1,900}){1,900}")), HasSubstr("repeats"));
  EXPECT_THAT(refusal(spec(Kind::kRegex, "a{99999999999999999999}")), HasSubstr("repeats"));
  EXPECT_THAT(refusal(spec(Kind::kEbnf, "root ::= (\"a\"{900} \"b\"){900}")), HasSubstr("repeats"));
  EXPECT_THAT(refusal(spec(Kind::kEbnf, "root ::= " + nested(50000, "(", "\"a\"", ")"))),
              HasSubstr("deeper"));
  EXPECT_THAT(refusal(spec(Kind::kEbnf, std::string(1 << 20, 'a'))), HasSubstr("bytes"));
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, R"({"type":"string","maxLength":1000000000})")),
              HasSubstr("maxLength"));
  std::string many = R"({"enum":[0)";
  for (int i = 1; i < 5000; ++i) many += "," + std::to_string(i);
  EXPECT_THAT(refusal(spec(Kind::kJsonSchema, many + "]}")), HasSubstr("too large"));
  EXPECT_THAT(refusal(choice(std::vector<std::string>(1000000, "a"))), HasSubstr("choices"));
  EXPECT_THAT(refusal(choice({std::string(std::size_t{1} << 20, 'a')})), HasSubstr("bytes"));
  EXPECT_EQ(refusal(spec(Kind::kRegex, "((x+x+)+)+y")), "accepted");
}

TEST_P(GrammarTest, AmbiguityIsBounded) {
  GrammarLimits hasty;
  hasty.free_seconds = 0.05;
  hasty.max_mean_step_seconds = 1e-5;
  GrammarCompiler compiler(*tokenizer_, stops_, vocabulary(), hasty);
  const auto matcher = compiler.compile(spec(Kind::kRegex, "(.*)*(.*)*z"))->matcher();
  const std::int32_t a = tokenizer_->encode("a", false, false).front();
  std::vector<std::uint32_t> words(static_cast<std::size_t>(vocabulary() + 31) / 32);
  try {
    for (int step = 0; step < 5000; ++step) {
      matcher->fill(words);
      ASSERT_TRUE(matcher->accept(a));
    }
    FAIL() << "never stopped";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("ambiguous"));
  }
}

TEST_P(GrammarTest, MasksMustFit) {
  const auto matcher = compiler_->compile(choice({"a"}))->matcher();
  std::vector<std::uint32_t> words(1);
  EXPECT_THROW(matcher->fill(words), Error);
  EXPECT_FALSE(matcher->accept(-1));
  EXPECT_FALSE(matcher->accept(1 << 30));
}

TEST_P(GrammarTest, CacheIsSharedAndBounded) {
  const GrammarSpec object = spec(Kind::kJsonObject, "");
  const auto first = compiler_->compile(object);
  EXPECT_EQ(compiler_->compile(object), first);
  EXPECT_NE(compiler_->compile(choice({"a", "b"})), compiler_->compile(choice({"a\x1f"
                                                                               "1:b"})));
  EXPECT_EQ(compiler_->cached(), 3U);
  EXPECT_THAT(refusal(choice({})), Not("accepted"));
  EXPECT_EQ(compiler_->cached(), 3U);

  GrammarLimits small;
  small.cache_bytes = first->bytes() + 1;
  GrammarCompiler bounded(*tokenizer_, stops_, vocabulary(), small);
  for (int i = 0; i < 50; ++i) {
    bounded.compile(choice({"a" + std::to_string(i)}));
    bounded.compile(object);
  }
  EXPECT_GE(bounded.cached(), 1U);
  EXPECT_LT(bounded.cached(), 50U);
}

TEST_P(GrammarTest, ThreadsShareACompiler) {
  std::vector<std::thread> threads;
  std::vector<std::shared_ptr<const Grammar>> made(8);
  for (std::size_t i = 0; i < made.size(); ++i)
    threads.emplace_back([&, i] {
      made[i] = compiler_->compile(spec(Kind::kJsonSchema, R"({"type":"array","items":{"type":"integer"}})"));
      EXPECT_TRUE(matches(*made[i], "[1, 2]"));
      EXPECT_THROW(compiler_->compile(spec(Kind::kRegex, "(")), Error);
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& grammar : made) EXPECT_EQ(grammar, made.front());
}

}  // namespace
}  // namespace sabrewing::text
