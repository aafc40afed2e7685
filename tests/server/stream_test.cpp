// Event sequences of streams, for answers that a script gives instead of a model. The sequences are those of
// the published protocols: OpenAI's Responses streaming events, Anthropic's Messages streaming.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>

#include "core/mapped_file.h"
#include "server_fixture.h"

namespace sabrewing::server {
namespace {

/// Random ids become PREFIX_1, PREFIX_2, ... by their first appearance, times 1.
class Normalizer {
 public:
  OrderedJson operator()(const OrderedJson& json) {
    if (json.is_string()) return text(json.get<std::string>());
    if (!json.is_structured()) return json;
    OrderedJson made = json.is_object() ? OrderedJson::object() : OrderedJson::array();
    if (json.is_array())
      for (const OrderedJson& item : json) made.push_back((*this)(item));
    else
      for (const auto& [key, item] : json.items())
        made[key] = key == "created_at" || key == "created" ? OrderedJson(1) : (*this)(item);
    return made;
  }

 private:
  std::string text(const std::string& from) {
    static const std::regex random("(resp|msg|rs|fc|call|toolu|chatcmpl)([_-])[0-9a-f]{24}");
    std::smatch match;
    if (!std::regex_match(from, match, random)) return from;
    const auto [found, added] = names_.try_emplace(from);
    if (added) found->second = match[1].str() + match[2].str() + std::to_string(++counts_[match[1]]);
    return found->second;
  }

  std::map<std::string, std::string> names_;
  std::map<std::string, int> counts_;
};

/// The events of a stream, each with its name in "event" where it has one.
OrderedJson named_events(const std::string& body) {
  OrderedJson events = OrderedJson::array();
  std::string name;
  std::istringstream lines(body);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("event: ")) name = line.substr(7);
    if (!line.starts_with("data: ")) continue;
    const OrderedJson data =
        line == "data: [DONE]" ? OrderedJson("[DONE]") : parse_ordered_json(line.substr(6), "event");
    events.push_back({{"event", name}, {"data", data}});
    name.clear();
  }
  return events;
}

class StreamTest : public testing::Test {
 protected:
  static ServedModel& served() {
    static ServedModel model("mini-qwen3", qwen3_options());
    return model;
  }
  static OrderedJson cases() {
    const auto file = std::filesystem::path(SABREWING_SOURCE_DIR) / "tests/data/server/streams.json";
    return parse_ordered_json(read_text_file(file, 1U << 24U), "streams.json")["cases"];
  }

  /// Puts pieces of text in the place of the model's answer.
  static void script(const OrderedJson& pieces, const OrderedJson& end) {
    served().service->submit = [pieces, end](const engine::Request&, const engine::RequestSink& sink) {
      const text::Tokenizer& tokenizer = *served().model.tokenizer;
      engine::RequestUpdate update;
      update.usage = {20, 0, 4};
      for (const OrderedJson& piece : pieces) {
        engine::OutputToken token;
        token.text = piece;
        token.id = tokenizer.encode(token.text).front();
        update.tokens = {token};
        ++update.usage.completion_tokens;
        sink(update);
      }
      update.tokens.clear();
      update.finished = true;
      const std::string reason = end["reason"];
      if (reason == "length") update.reason = engine::FinishReason::kLength;
      if (reason == "error") {
        update.reason = engine::FinishReason::kError;
        update.error = Error(ErrorCode::kDevice, "[decode] the device was lost");
      }
      if (end.contains("stop_string")) update.stop_string = end["stop_string"];
      sink(update);
      return engine::Submission{1, {}};
    };
  }
};

TEST_F(StreamTest, EventsAreThoseOfTheProtocols) {
  const OrderedJson all = cases();
  EXPECT_GE(all.size(), 14U);
  for (const OrderedJson& one : all) {
    script(one["pieces"], one["end"]);
    const auto answer = served().post(one["path"], one["request"].dump());
    ASSERT_EQ(answer->head.status, 200) << answer->body;
    Normalizer normalize;
    EXPECT_EQ(normalize(named_events(answer->body)), one["events"]) << one["name"];
  }
}

TEST_F(StreamTest, WholeAnswersEqualTheirStreams) {
  for (const OrderedJson& one : cases()) {
    if (one["end"]["reason"] == "error") continue;
    script(one["pieces"], one["end"]);
    OrderedJson request = one["request"];
    request["stream"] = false;
    const auto answer = served().post(one["path"], request.dump());
    ASSERT_EQ(answer->head.status, 200) << answer->body;
    Normalizer normalize;
    const OrderedJson body = normalize(parse_ordered_json(answer->body, "answer"));
    const OrderedJson last = one["events"].back()["data"];
    if (one["path"] == "/v1/responses") {
      EXPECT_EQ(body["output"].size(), last["response"]["output"].size()) << one["name"];
      EXPECT_EQ(body["status"], last["response"]["status"]) << one["name"];
      EXPECT_EQ(body["usage"], last["response"]["usage"]) << one["name"];
      continue;
    }
    OrderedJson content = OrderedJson::array();
    std::string arguments;
    for (const OrderedJson& event : one["events"]) {
      const OrderedJson& data = event["data"];
      if (data["type"] == "content_block_start") content.push_back(data["content_block"]);
      if (data["type"] == "content_block_delta") {
        OrderedJson& block = content.back();
        for (const char* field : {"text", "thinking"})
          if (data["delta"].contains(field))
            block[field] = block[field].get<std::string>() + data["delta"][field].get<std::string>();
        if (data["delta"].contains("partial_json")) arguments += data["delta"]["partial_json"];
      }
      if (data["type"] == "content_block_stop" && content.back()["type"] == "tool_use") {
        content.back()["input"] = OrderedJson::parse(arguments, nullptr, false);
        if (!content.back()["input"].is_object()) content.back()["input"] = OrderedJson::object();
        arguments.clear();
      }
      if (data["type"] == "message_delta") {
        EXPECT_EQ(body["stop_reason"], data["delta"]["stop_reason"]) << one["name"];
        EXPECT_EQ(body["stop_sequence"], data["delta"]["stop_sequence"]) << one["name"];
        EXPECT_EQ(body["usage"], data["usage"]) << one["name"];
      }
    }
    EXPECT_EQ(body["content"], content) << one["name"];
  }
}

TEST_F(StreamTest, AnErrorBeforeTheFirstTokenIsAnAnswerOfItsOwn) {
  script(OrderedJson::array(), {{"reason", "error"}});
  const auto openai = served().post("/v1/responses", R"({"input": "a", "stream": true})");
  EXPECT_EQ(openai->head.status, 500);
  EXPECT_EQ(parse_ordered_json(openai->body, "answer")["error"]["message"], "the device was lost");
  const auto anthropic = served().post(
      "/v1/messages", R"({"messages": [{"role": "user", "content": "a"}], "max_tokens": 8, "stream": true})");
  EXPECT_EQ(anthropic->head.status, 500);
  EXPECT_EQ(parse_ordered_json(anthropic->body, "answer"),
            OrderedJson::parse(
                R"({"type": "error", "error": {"type": "api_error", "message": "the device was lost"}})"));
}

}  // namespace
}  // namespace sabrewing::server
