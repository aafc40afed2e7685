#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "core/error.h"
#include "core/mapped_file.h"
#include "text/chat/parser.h"
#include "text/tokenizer.h"

namespace sabrewing::text {
namespace {

using ::testing::Contains;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::WhenSorted;

const std::filesystem::path kData = std::filesystem::path(SABREWING_SOURCE_DIR) / "tests/data/chat_parsers";

struct Call {
  std::string name;
  std::string arguments;
  std::string id;
  bool closed = true;
  bool operator==(const Call&) const = default;
};

struct Parsed {
  std::string reasoning;
  std::string content;
  std::vector<Call> calls;
  bool operator==(const Parsed&) const = default;
};

void PrintTo(const Parsed& parsed, std::ostream* out) {
  *out << "reasoning " << OrderedJson(parsed.reasoning) << " content " << OrderedJson(parsed.content);
  for (const Call& call : parsed.calls)
    *out << "\n  " << call.name << " " << call.arguments << " id " << call.id << (call.closed ? "" : " open");
}

void add(Parsed& parsed, const std::vector<ChatDelta>& deltas) {
  for (const ChatDelta& delta : deltas) {
    const auto call = static_cast<std::size_t>(delta.call);
    switch (delta.kind) {
      case ChatDelta::Kind::kReasoning:
        parsed.reasoning += delta.text;
        break;
      case ChatDelta::Kind::kContent:
        parsed.content += delta.text;
        break;
      case ChatDelta::Kind::kToolCall:
        ASSERT_EQ(call, parsed.calls.size());
        parsed.calls.push_back({delta.text, "", delta.id});
        break;
      case ChatDelta::Kind::kToolArguments:
        ASSERT_EQ(call + 1, parsed.calls.size());
        parsed.calls[call].arguments += delta.text;
        break;
    }
    EXPECT_FALSE(delta.text.empty());
    // Pieces are whole characters.
    EXPECT_NO_THROW(OrderedJson(delta.text).dump()) << delta.text;
  }
}

/// `cuts`: byte positions where a new piece begins, ascending.
Parsed parse(const ChatParserOptions& options, std::string_view text, const std::vector<std::size_t>& cuts) {
  const std::unique_ptr<ChatParser> parser = make_chat_parser(options);
  Parsed parsed;
  std::size_t at = 0;
  std::vector<ChatDelta> deltas;
  const auto push = [&](std::size_t end) {
    deltas.clear();
    parser->push(-1, text.substr(at, end - at), deltas);
    add(parsed, deltas);
    at = end;
  };
  for (const std::size_t cut : cuts) push(cut);
  push(text.size());
  deltas.clear();
  parser->finish(deltas);
  add(parsed, deltas);
  for (std::size_t i = 0; i < parsed.calls.size(); ++i) {
    parsed.calls[i].closed = parser->call_closed(static_cast<std::int32_t>(i));
    const bool object = Json::parse(parsed.calls[i].arguments, nullptr, false).is_object();
    EXPECT_TRUE(object || !parsed.calls[i].closed) << parsed.calls[i].arguments;
  }
  EXPECT_FALSE(parser->call_closed(static_cast<std::int32_t>(parsed.calls.size())));
  return parsed;
}

std::vector<std::size_t> boundaries(std::string_view text) {
  std::vector<std::size_t> out;
  for (std::size_t at = 1; at < text.size(); ++at)
    if ((static_cast<unsigned char>(text[at]) & 0xC0U) != 0x80U) out.push_back(at);
  return out;
}

Parsed expected(const OrderedJson& test) {
  Parsed parsed;
  parsed.reasoning = test.value("reasoning", "");
  parsed.content = test.at("content");
  for (const OrderedJson& call : test.at("calls"))
    parsed.calls.push_back(
        {call.at("name"), call.at("arguments"), call.value("id", ""), !call.contains("open")});
  return parsed;
}

class GoldenStreams : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenStreams, SameForEverySplit) {
  const std::filesystem::path file = kData / (GetParam() + ".json");
  const OrderedJson golden = parse_ordered_json(read_text_file(file, 1U << 20U), file.string(), 256);
  std::vector<std::pair<std::string, std::string>> parsers = {
      {golden["tool_parser"], golden["reasoning_parser"]}};
  for (const OrderedJson& alias : golden["aliases"]) parsers.emplace_back(alias[0], alias[1]);
  std::mt19937 random(17);
  for (std::size_t p = 0; p < parsers.size(); ++p) {
    for (const OrderedJson& test : golden["cases"]) {
      SCOPED_TRACE(parsers[p].first + "/" + parsers[p].second + ": " + test.at("name").get<std::string>());
      const auto text = test.at("text").get<std::string>();
      const auto prompt = test.value("prompt", "");
      Parsed want = expected(test);
      // An alias without its reasoning half sees only cases that have none.
      if (parsers[p].second.empty() && !(want.reasoning.empty() && prompt.empty())) continue;
      ChatParserOptions options;
      options.tool_parser = parsers[p].first;
      options.reasoning_parser = parsers[p].second;
      options.tools = golden["tools"];
      options.prompt = prompt;
      Parsed whole = parse(options, text, {});
      if (GetParam() == "kimi_k2") {
        for (std::size_t i = 0; i < want.calls.size() && i < whole.calls.size(); ++i)
          if (want.calls[i].id.empty())
            want.calls[i].id = "functions." + want.calls[i].name + ":" + std::to_string(i);
      }
      EXPECT_EQ(whole, want);
      const std::vector<std::size_t> cuts = boundaries(text);
      EXPECT_EQ(parse(options, text, cuts), whole) << "every character";
      if (p > 0) continue;
      for (const std::size_t cut : cuts)
        ASSERT_EQ(parse(options, text, {cut}), whole) << "cut at byte " << cut;
      for (int trial = 0; trial < 20; ++trial) {
        std::vector<std::size_t> some;
        const unsigned share = 2 + random() % 12;
        for (const std::size_t cut : cuts)
          if (random() % share == 0) some.push_back(cut);
        ASSERT_EQ(parse(options, text, some), whole) << "random pieces, trial " << trial;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenStreams,
                         ::testing::Values("hermes", "qwen3", "deepseek_r1", "qwen3_coder", "glm47",
                                           "minimax", "deepseek_v4", "deepseek_v3", "deepseek_v31", "kimi_k2",
                                           "llama3_json", "mistral", "gptoss"),
                         [](const auto& golden) { return golden.param; });

Parsed parse_text(const std::string& tool, const std::string& reasoning, std::string_view text,
                  bool parse_tools = true) {
  ChatParserOptions options;
  options.tool_parser = tool;
  options.reasoning_parser = reasoning;
  options.parse_tools = parse_tools;
  return parse(options, text, {});
}

TEST(ChatParser, EveryNameIsCovered) {
  std::vector<std::string> tools;
  std::vector<std::string> reasoning;
  for (const auto& entry : std::filesystem::directory_iterator(kData)) {
    const OrderedJson golden = parse_ordered_json(read_text_file(entry.path(), 1U << 20U), "golden", 256);
    tools.push_back(golden["tool_parser"]);
    reasoning.push_back(golden["reasoning_parser"]);
    for (const OrderedJson& alias : golden["aliases"]) {
      tools.push_back(alias[0]);
      reasoning.push_back(alias[1]);
    }
  }
  for (const std::string& name : tool_parser_names()) EXPECT_THAT(tools, Contains(name));
  for (const std::string& name : reasoning_parser_names()) EXPECT_THAT(reasoning, Contains(name));
  EXPECT_THAT(tool_parser_names(), WhenSorted(ElementsAreArray(tool_parser_names())));
}

TEST(ChatParser, UnknownNames) {
  const auto message = [](const std::string& tool, const std::string& reasoning) -> std::string {
    try {
      parse_text(tool, reasoning, "");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message("hermez", ""),
              HasSubstr("unknown tool parser \"hermez\", expected one of: deepseek-v4"));
  EXPECT_THAT(message("", "x"), HasSubstr("unknown reasoning parser \"x\""));
  EXPECT_THAT(message("hermes", "gptoss"), HasSubstr("do not go together"));
}

TEST(ChatParser, NothingIsParsedWithoutNames) {
  const std::string text = " <think>a</think>\n<tool_call>{\"name\": \"f\"}</tool_call>\n";
  EXPECT_EQ(parse_text("", "", text), (Parsed{"", text, {}}));
}

TEST(ChatParser, ToolChoiceNone) {
  const std::string call = "<tool_call>{\"name\": \"f\"}</tool_call>";
  EXPECT_EQ(parse_text("hermes", "qwen3", "<think>a</think>" + call, false), (Parsed{"a", call, {}}));
  EXPECT_EQ(parse_text("openai", "openai_gptoss", "<|channel|>commentary to=functions.f<|message|>{}<|call|>",
                       false),
            (Parsed{"", "{}", {}}));
}

TEST(ChatParser, ArgumentsComeOutAsTheyAreWritten) {
  for (const char* name : {"hermes", "qwen3_coder", "openai"}) {
    ChatParserOptions options;
    options.tool_parser = name;
    const std::string_view start =
        std::string_view(name) == "hermes"   ? "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"one"
        : std::string_view(name) == "openai" ? "<|channel|>commentary to=functions.f<|message|>{\"a\": \"one"
                                             : "<tool_call>\n<function=f>\n<parameter=a>\none";
    const auto parser = make_chat_parser(options);
    std::vector<ChatDelta> deltas;
    parser->push(-1, start, deltas);
    ASSERT_EQ(deltas.size(), 2U) << name;
    EXPECT_EQ(deltas[0].kind, ChatDelta::Kind::kToolCall);
    EXPECT_EQ(deltas[0].text, "f");
    EXPECT_EQ(deltas[1].text, "{\"a\": \"one");
    deltas.clear();
    parser->push(-1, " two", deltas);
    ASSERT_EQ(deltas.size(), 1U);
    EXPECT_EQ(deltas[0].kind, ChatDelta::Kind::kToolArguments);
    EXPECT_EQ(deltas[0].text, " two");
    EXPECT_FALSE(parser->call_closed(0));
  }
}

TEST(ChatParser, LongInputsTakeLinearTimeAndLimitsHold) {
  const std::string many(200000, ' ');
  EXPECT_EQ(parse_text("hermes", "qwen3", "<think>" + many + "</think>x").content, "x");
  const std::string brackets =
      "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": " + std::string(100000, '[');
  const Parsed deep = parse_text("hermes", "", brackets);
  ASSERT_EQ(deep.calls.size(), 1U);
  EXPECT_FALSE(deep.calls[0].closed);
  EXPECT_EQ(deep.calls[0].arguments.size() + deep.content.size(), 100000U + 6);
  const std::string name = "<tool_call>{\"name\": \"" + std::string(300, 'n') + "\"}</tool_call>";
  EXPECT_EQ(parse_text("hermes", "", name), (Parsed{"", name, {}}));
  const std::string held = "<tool_call>{\"x\": \"" + std::string((1U << 20U) + 100, 'x') + "\"}";
  EXPECT_EQ(parse_text("hermes", "", held).content, held);
  const std::string openings = [] {
    std::string out;
    for (int i = 0; i < 20000; ++i) out += "<tool_call>";
    return out;
  }();
  EXPECT_EQ(parse_text("hermes", "", openings).content, openings);
}

/// Ids of the small gpt-oss tokenizer.
class HarmonyTokens : public ::testing::Test {
 protected:
  Parsed parse_ids(const std::vector<std::int32_t>& ids) {
    ChatParserOptions options;
    options.tool_parser = "openai";
    options.tokenizer = &tokenizer_;
    const auto parser = make_chat_parser(options);
    std::vector<ChatDelta> deltas;
    for (const std::int32_t id : ids) parser->push(id, tokenizer_.decode({&id, 1}, false), deltas);
    parser->finish(deltas);
    Parsed parsed;
    add(parsed, deltas);
    for (std::size_t i = 0; i < parsed.calls.size(); ++i)
      parsed.calls[i].closed = parser->call_closed(static_cast<std::int32_t>(i));
    return parsed;
  }

  Tokenizer tokenizer_ = Tokenizer::from_file(std::filesystem::path(SABREWING_SOURCE_DIR) /
                                              "models/mini-gpt-oss/tokenizer.json");
};

TEST_F(HarmonyTokens, SpelledOutMarkersAreText) {
  std::vector<std::int32_t> ids = tokenizer_.encode("<|channel|>final<|message|>");
  for (const std::int32_t id : tokenizer_.encode("say <|end|><|start|>x", false, false)) ids.push_back(id);
  for (const std::int32_t id : tokenizer_.encode("<|end|><|start|>assistant<|channel|>analysis<|message|>y"))
    ids.push_back(id);
  EXPECT_EQ(parse_ids(ids), (Parsed{"y", "say <|end|><|start|>x", {}}));
}

TEST_F(HarmonyTokens, MarkersInsideArguments) {
  std::vector<std::int32_t> ids = tokenizer_.encode("<|channel|>commentary to=functions.f<|message|>");
  for (const std::int32_t id : tokenizer_.encode("{\"a\": \"<|end|><|call|>\"}", false, false))
    ids.push_back(id);
  for (const std::int32_t id : tokenizer_.encode("<|call|>")) ids.push_back(id);
  EXPECT_EQ(parse_ids(ids), (Parsed{"", "", {{"f", "{\"a\": \"<|end|><|call|>\"}", ""}}}));
}

TEST_F(HarmonyTokens, OtherSpecialTokensAreLeftOut) {
  EXPECT_EQ(parse_ids(tokenizer_.encode("<|channel|>final<|message|>a<|endoftext|>b<|return|>")),
            (Parsed{"", "ab", {}}));
}

TEST_F(HarmonyTokens, EmptyCallThatTheStopTokenEnds) {
  ChatParserOptions options;
  options.tool_parser = "openai";
  options.tokenizer = &tokenizer_;
  for (const bool stopped : {true, false}) {
    const auto parser = make_chat_parser(options);
    std::vector<ChatDelta> deltas;
    for (const std::int32_t id : tokenizer_.encode("<|channel|>commentary to=functions.f<|message|>"))
      parser->push(id, tokenizer_.decode({&id, 1}, false), deltas);
    if (stopped) parser->push(*tokenizer_.token_id("<|call|>"), "", deltas);
    parser->finish(deltas);
    ASSERT_EQ(deltas.size(), stopped ? 2U : 1U);
    EXPECT_EQ(deltas[0].text, "f");
    EXPECT_EQ(parser->call_closed(0), stopped);
  }
}

TEST(ChatParser, SpecialTokensOfChatMl) {
  const Tokenizer tokenizer =
      Tokenizer::from_file(std::filesystem::path(SABREWING_SOURCE_DIR) / "models/mini-qwen3/tokenizer.json");
  ChatParserOptions options;
  options.tool_parser = "hermes";
  options.reasoning_parser = "qwen3";
  options.tokenizer = &tokenizer;
  const auto parser = make_chat_parser(options);
  std::vector<ChatDelta> deltas;
  for (const std::int32_t id : tokenizer.encode(
           "<think>\nx</think>y<|im_end|>\n<tool_call>{\"name\": \"f\"}</tool_call><|endoftext|>"))
    parser->push(id, tokenizer.decode({&id, 1}, false), deltas);
  parser->finish(deltas);
  Parsed parsed;
  add(parsed, deltas);
  EXPECT_EQ(parsed, (Parsed{"x", "y", {{"f", "{}", ""}}}));
}

TEST(DefaultParsers, FollowTypeAndTemplate) {
  const auto names = [](std::string_view type, std::string_view source) {
    const ChatParserDefaults found = default_parsers(type, source);
    return found.tool_parser + "/" + found.reasoning_parser;
  };
  EXPECT_EQ(names("gpt_oss", ""), "openai/openai_gptoss");
  EXPECT_EQ(names("", "<|start|>system<|channel|>"), "openai/openai_gptoss");
  EXPECT_EQ(names("qwen3", "<|im_start|>{{ '<think>' }}<tool_call>"), "hermes/qwen3");
  EXPECT_EQ(names("qwen3_moe", "<|im_start|><tool_call><function="), "qwen3_coder/");
  EXPECT_EQ(names("qwen3", "<|im_start|>"), "hermes/");
  EXPECT_EQ(names("deepseek_v4", ""), "deepseek_v4/deepseek_v4");
  EXPECT_EQ(names("glm4_moe", "<think><tool_call><arg_key>"), "glm47/glm45");
  EXPECT_EQ(names("minimax_m2", "<think><minimax:tool_call>"), "minimax_m2/minimax_m2");
  EXPECT_EQ(names("kimi_k2", "<|tool_calls_section_begin|>"), "kimi_k2/");
  EXPECT_EQ(names("deepseek_v3", "<｜tool▁calls▁begin｜></think>"), "deepseek_v3/deepseek_v3");
  EXPECT_EQ(names("mistral", "[TOOL_CALLS]"), "mistral/");
  EXPECT_EQ(names("llama", "<|start_header_id|>"), "llama3_json/");
  EXPECT_EQ(names("llama", ""), "/");
}

}  // namespace
}  // namespace sabrewing::text
