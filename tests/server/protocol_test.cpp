// What routes answer, without sockets: golden sequences, fields, refusals.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/mapped_file.h"
#include "server_fixture.h"

namespace sabrewing::server {
namespace {

using testing::HasSubstr;

constexpr char kChat[] = "/v1/chat/completions";
constexpr char kText[] = "/v1/completions";

class ProtocolTest : public testing::Test {
 protected:
  static ServedModel& served() {
    static ServedModel model("mini-qwen3");
    return model;
  }
  /// The first case of the checkpoint's reference.json, made with transformers.
  static const OrderedJson& reference() {
    static const OrderedJson cases = parse_ordered_json(
        read_text_file(std::filesystem::path(SABREWING_SOURCE_DIR) / "models/mini-qwen3/reference.json",
                       1u << 28),
        "reference")["cases"];
    return cases[0];
  }
  static OrderedJson ok(const char* path, const OrderedJson& body) {
    const auto answer = served().post(path, body.dump());
    EXPECT_EQ(answer->head.status, 200) << answer->body;
    return parse_ordered_json(answer->body, "answer");
  }
  /// Status, param and message of a refusal.
  struct Refusal {
    int status = 0;
    std::string param;
    std::string message;
  };
  static Refusal refused(const char* path, const std::string& body) {
    const auto answer = served().post(path, body);
    EXPECT_EQ(answer->responses, 1);
    const OrderedJson json = parse_ordered_json(answer->body, "answer");
    Refusal refusal;
    refusal.status = answer->head.status;
    if (!json.contains("error")) return refusal;
    const OrderedJson& error = json["error"];
    EXPECT_EQ(error.size(), 4u);
    EXPECT_TRUE(error["type"].is_string());
    if (error["param"].is_string()) refusal.param = error["param"];
    refusal.message = error["message"];
    return refusal;
  }
  static OrderedJson chat_body() {
    return {{"messages", OrderedJson::array({{{"role", "user"}, {"content", "Ann has 3 apples."}}})},
            {"max_tokens", 6},
            {"temperature", 0}};
  }
};

TEST_F(ProtocolTest, CompletionOfTokenIdsIsTransformersOwn) {
  const OrderedJson& one = reference();
  const OrderedJson answer = ok(kText, {{"prompt", one["prompt_ids"]},
                                        {"max_tokens", one["greedy_ids"].size()},
                                        {"temperature", 0},
                                        {"return_token_ids", true}});
  const OrderedJson& choice = answer["choices"][0];
  EXPECT_EQ(choice["token_ids"], one["greedy_ids"]);
  EXPECT_EQ(choice["prompt_token_ids"], one["prompt_ids"]);
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(answer["object"], "text_completion");
  EXPECT_EQ(answer["model"], "mini-qwen3");
  EXPECT_EQ(answer["usage"]["prompt_tokens"], one["prompt_ids"].size());
  EXPECT_EQ(answer["usage"]["completion_tokens"], one["greedy_ids"].size());
  EXPECT_EQ(answer["usage"]["total_tokens"], one["prompt_ids"].size() + one["greedy_ids"].size());
}

TEST_F(ProtocolTest, StreamedChatHasRoleThenContentThenReasonThenUsageThenDone) {
  OrderedJson body = chat_body();
  const OrderedJson whole = ok(kChat, body);
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  const auto answer = served().post(kChat, body.dump());
  ASSERT_TRUE(answer->streamed);
  EXPECT_EQ(answer->head.content_type, "text/event-stream; charset=utf-8");
  const std::vector<OrderedJson> events = events_of(answer->body);
  ASSERT_GE(events.size(), 5u);
  const OrderedJson& first = events.front();
  EXPECT_EQ(first["object"], "chat.completion.chunk");
  EXPECT_EQ(first["choices"][0]["delta"], OrderedJson({{"role", "assistant"}, {"content", ""}}));
  EXPECT_TRUE(first["choices"][0]["finish_reason"].is_null());
  std::string content;
  for (std::size_t i = 1; i + 3 < events.size(); ++i) {
    EXPECT_EQ(events[i]["id"], first["id"]);
    EXPECT_TRUE(events[i]["usage"].is_null());
    EXPECT_TRUE(events[i]["choices"][0]["finish_reason"].is_null());
    content += events[i]["choices"][0]["delta"]["content"];
  }
  EXPECT_EQ(OrderedJson(content), whole["choices"][0]["message"]["content"]);
  const OrderedJson& reason = events[events.size() - 3];
  EXPECT_EQ(reason["choices"][0]["delta"], OrderedJson::object());
  EXPECT_EQ(reason["choices"][0]["finish_reason"], "length");
  const OrderedJson& usage = events[events.size() - 2];
  EXPECT_EQ(usage["choices"], OrderedJson::array());
  EXPECT_EQ(usage["usage"]["completion_tokens"], 6);
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST_F(ProtocolTest, SeveralPromptsAndChoicesKeepTheirPlaces) {
  const OrderedJson body = {
      {"prompt", {"Ann has", "Bob has"}}, {"n", 2}, {"max_tokens", 3}, {"temperature", 0}};
  const OrderedJson answer = ok(kText, body);
  ASSERT_EQ(answer["choices"].size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(answer["choices"][i]["index"], i);
  EXPECT_EQ(answer["choices"][0]["text"], answer["choices"][1]["text"]) << "greedy choices are equal";
  const OrderedJson bob = ok(kText, {{"prompt", "Bob has"}, {"max_tokens", 3}, {"temperature", 0}});
  EXPECT_EQ(answer["choices"][2]["text"], bob["choices"][0]["text"]);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 12);
}

TEST_F(ProtocolTest, EchoWithLogprobsCoversPromptAndAnswer) {
  const OrderedJson answer = ok(kText, {{"prompt", "Ann has 3 apples."},
                                        {"echo", true},
                                        {"logprobs", 1},
                                        {"max_tokens", 2},
                                        {"temperature", 0}});
  const OrderedJson& choice = answer["choices"][0];
  EXPECT_TRUE(choice["text"].get<std::string>().starts_with("Ann has 3 apples."));
  const OrderedJson& logprobs = choice["logprobs"];
  const std::size_t tokens = answer["usage"]["prompt_tokens"].get<std::size_t>() + 2;
  for (const char* list : {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
    EXPECT_EQ(logprobs[list].size(), tokens) << list;
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
  std::string joined;
  for (std::size_t i = 0; i < tokens; ++i) {
    EXPECT_EQ(logprobs["text_offset"][i], joined.size());
    joined += logprobs["tokens"][i];
    if (i > 0) {
      EXPECT_LE(logprobs["token_logprobs"][i], 0);
    }
  }
  EXPECT_EQ(OrderedJson(joined), choice["text"]);
  const OrderedJson scored =
      ok(kText, {{"prompt", "Ann has 3 apples."}, {"echo", true}, {"logprobs", 1}, {"max_tokens", 0}});
  EXPECT_EQ(scored["choices"][0]["text"], "Ann has 3 apples.");
  EXPECT_EQ(scored["usage"]["completion_tokens"], 0);
}

TEST_F(ProtocolTest, StopStringEndsTheTextAndIsReported) {
  const OrderedJson whole =
      ok(kText, {{"prompt", "Ann has 3 apples."}, {"max_tokens", 12}, {"temperature", 0}});
  const std::string text = whole["choices"][0]["text"];
  const std::string stop = text.substr(text.size() / 2, 3);
  const std::size_t at = text.find(stop);
  OrderedJson body = {
      {"prompt", "Ann has 3 apples."}, {"max_tokens", 12}, {"temperature", 0}, {"stop", stop}};
  OrderedJson answer = ok(kText, body);
  EXPECT_EQ(answer["choices"][0]["text"], text.substr(0, at));
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(answer["choices"][0]["stop_reason"], stop);
  body["include_stop_str_in_output"] = true;
  answer = ok(kText, body);
  EXPECT_EQ(answer["choices"][0]["text"], text.substr(0, at) + stop);
}

TEST_F(ProtocolTest, ContinuesTheFinalMessage) {
  const OrderedJson messages = OrderedJson::array({{{"role", "user"}, {"content", "Ann has 3 apples."}},
                                                   {{"role", "assistant"}, {"content", "She has 3"}}});
  const OrderedJson ids = ok("/tokenize", {{"messages", messages}, {"continue_final_message", true}});
  const OrderedJson text = ok("/detokenize", {{"tokens", ids["tokens"]}});
  EXPECT_TRUE(text["prompt"].get<std::string>().ends_with("She has 3")) << text;
  const OrderedJson answer = ok(kChat, {{"messages", messages},
                                        {"continue_final_message", true},
                                        {"echo", true},
                                        {"max_tokens", 2},
                                        {"temperature", 0}});
  EXPECT_TRUE(answer["choices"][0]["message"]["content"].get<std::string>().starts_with("She has 3"));
}

TEST_F(ProtocolTest, ChatLogprobsCountTokensAndGiveBytes) {
  OrderedJson body = chat_body();
  body["logprobs"] = true;
  body["top_logprobs"] = 2;
  const OrderedJson answer = ok(kChat, body);
  const OrderedJson& content = answer["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 6u);
  for (const OrderedJson& token : content) {
    EXPECT_EQ(token["top_logprobs"].size(), 2u);
    std::string bytes;
    for (const OrderedJson& byte : token["bytes"]) bytes += static_cast<char>(byte.get<int>());
    EXPECT_EQ(OrderedJson(bytes), token["token"]);
  }
}

TEST_F(ProtocolTest, SeedRepeatsAndSamplingFieldsReachTheEngine) {
  const OrderedJson sampled = {{"prompt", "Ann"}, {"seed", -7}, {"temperature", 1.5}, {"max_tokens", 8}};
  EXPECT_EQ(ok(kText, sampled)["choices"][0]["text"], ok(kText, sampled)["choices"][0]["text"]);
  const OrderedJson only = ok(kText, {{"prompt", "Ann"},
                                      {"allowed_token_ids", {300}},
                                      {"max_tokens", 3},
                                      {"ignore_eos", true},
                                      {"return_token_ids", true}});
  EXPECT_EQ(only["choices"][0]["token_ids"], OrderedJson({300, 300, 300}));
  const OrderedJson biased = ok(kText, {{"prompt", "Ann"},
                                        {"logit_bias", {{"301", 100}}},
                                        {"max_tokens", 1},
                                        {"temperature", 0},
                                        {"return_token_ids", true}});
  EXPECT_EQ(biased["choices"][0]["token_ids"], OrderedJson::array({301}));
  const OrderedJson body = {{"prompt", "Ann has 3 apples."}, {"max_tokens", 8}, {"temperature", 0}};
  const std::string text = ok(kText, body)["choices"][0]["text"];
  const std::size_t at = text.find_first_not_of(" \n");
  const std::string word = text.substr(at, text.find_first_of(" \n", at) - at);
  OrderedJson without = body;
  without["bad_words"] = {word};
  EXPECT_EQ(ok(kText, without)["choices"][0]["text"].get<std::string>().find(word), std::string::npos);
}

TEST_F(ProtocolTest, WrongValuesAreRefusedWithTheirName) {
  const struct {
    const char* fields;
    const char* param;
  } cases[] = {
      {R"("temperature": "hot")", "temperature"},
      {R"("temperature": -1)", "temperature"},
      {R"("top_p": 0)", "top_p"},
      {R"("top_k": 1.5)", "top_k"},
      {R"("n": 1000000000)", "n"},
      {R"("n": 0)", "n"},
      {R"("max_tokens": -1)", "max_tokens"},
      {R"("max_tokens": 99999999999999999999)", "max_tokens"},
      {R"("min_tokens": 9, "max_tokens": 3)", "min_tokens"},
      {R"("logit_bias": {"99999999": 1})", "logit_bias"},
      {R"("logit_bias": {"-1": 1})", "logit_bias"},
      {R"("logit_bias": {"5": 1000})", "logit_bias"},
      {R"("logit_bias": [1])", "logit_bias"},
      {R"("stop": 5)", "stop"},
      {R"("stop": [""])", "stop"},
      {R"("stop_token_ids": [1e12])", "stop_token_ids"},
      {R"("stop_token_ids": [99999999])", "stop_token_ids"},
      {R"("stream": "yes")", "stream"},
      {R"("stream_options": {"include_usage": true})", "stream_options"},
      {R"("stream": true, "stream_options": {"include_usage": 1})", "stream_options.include_usage"},
      {R"("seed": 1.5)", "seed"},
      {R"("logprobs": 21)", "logprobs"},
      {R"("prompt_logprobs": 1000000)", "prompt_logprobs"},
      {R"("suffix": "x")", "suffix"},
      {R"("best_of": 3)", "best_of"},
      {R"("use_beam_search": true)", "use_beam_search"},
      {R"("response_format": {"type": "magic"})", "response_format.type"},
      {R"("priority": 3000000000)", "priority"},
      {R"("bad_words": [""])", "bad_words"},
      {R"("allowed_token_ids": [])", "allowed_token_ids"},
      {R"("request_id": "a\nb")", "request_id"},
      {R"("model": 5)", "model"},
  };
  for (const auto& one : cases) {
    const Refusal refusal = refused(kText, std::string(R"({"prompt": "a", )") + one.fields + "}");
    EXPECT_EQ(refusal.status, 400) << one.fields;
    if (std::string(one.fields).find("99999999999999999999") == std::string::npos) {
      EXPECT_EQ(refusal.param, one.param) << one.fields << ": " << refusal.message;
    }
  }
  for (const char* prompt :
       {"5", "null", "[]", "\"\"", "[[]]", "[\"a\", 5]", "[99999999]", "[-1]", "[1.5]", "{}"})
    EXPECT_EQ(refused(kText, fmt::format("{{\"prompt\": {}}}", prompt)).status, 400) << prompt;
  EXPECT_EQ(refused(kText, R"({"prompt": "a", "model": "gpt-9"})").status, 404);
}

TEST_F(ProtocolTest, WrongMessagesAreRefusedWithTheirPath) {
  const struct {
    const char* messages;
    const char* param;
  } cases[] = {
      {"null", "messages"},
      {"[]", "messages"},
      {"[5]", "messages[0]."},
      {R"([{"content": "a"}])", "messages[0].role"},
      {R"([{"role": "user"}])", "messages[0].content"},
      {R"([{"role": "user", "content": 5}])", "messages[0].content"},
      {R"([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}])",
       "messages[0].content[0].type"},
      {R"([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}])",
       "messages[0].content[0].type"},
      {R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
  };
  for (const auto& one : cases) {
    const Refusal refusal = refused(kChat, fmt::format("{{\"messages\": {}}}", one.messages));
    EXPECT_EQ(refusal.status, 400) << one.messages;
    EXPECT_EQ(refusal.param, one.param) << refusal.message;
  }
  const std::string tools =
      R"("tools": [{"type": "function", "function": {"name": "f", "parameters": {"\u00e9": "\ud83d\ude00"}}}])";
  const Refusal no_parser =
      refused(kChat, R"({"messages": [{"role": "user", "content": "a"}], )" + tools + "}");
  EXPECT_EQ(no_parser.param, "tools") << no_parser.message;
}

TEST_F(ProtocolTest, MalformedBodies) {
  EXPECT_EQ(refused(kText, "").status, 400);
  EXPECT_EQ(refused(kText, "[]").status, 400);
  EXPECT_EQ(refused(kText, "{\"prompt\": \"a\"").status, 400);
  EXPECT_EQ(refused(kText, "{\"prompt\": \"\\ud800\"}").status, 400);
  EXPECT_EQ(refused(kText, "{\"prompt\": \"\xff\"}").status, 400);
  EXPECT_EQ(refused(kText, "{\"prompt\": \"a\", \"prompt\": \"b\"}").status, 400);
  EXPECT_EQ(refused(kText, std::string(100'000, '[')).status, 400);
  EXPECT_EQ(
      refused(kText, "{\"prompt\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}").status,
      400);
  std::string stops = "{\"prompt\": \"a\", \"stop\": [\"x\"";
  for (int i = 0; i < 1'000'000; ++i) stops += ",\"x\"";
  EXPECT_EQ(refused(kText, stops + "]}").param, "stop");
  const auto typed = served().post(kText, "{}", {{"Content-Type", "text/plain"}});
  EXPECT_EQ(typed->head.status, 415);
}

TEST_F(ProtocolTest, LongPromptsAreRefusedWithBothNumbers) {
  const std::int64_t context = served().engine->max_context();
  std::vector<std::int32_t> ids(static_cast<std::size_t>(context), 5);
  const Refusal refusal = refused(kText, OrderedJson({{"prompt", ids}}).dump());
  EXPECT_EQ(refusal.status, 400);
  EXPECT_EQ(refusal.param, "prompt");
  EXPECT_THAT(refusal.message, HasSubstr(std::to_string(context) + " tokens"));
  EXPECT_EQ(refused(kText, OrderedJson({{"prompt", std::string(20'000'000, 'a')}}).dump()).status, 400);
  const OrderedJson cut = ok(kText, {{"prompt", ids}, {"truncate_prompt_tokens", 4}, {"max_tokens", 1}});
  EXPECT_EQ(cut["usage"]["prompt_tokens"], 4);
}

TEST_F(ProtocolTest, IgnoredFieldsAreNamed) {
  const auto answer =
      served().post(kText, R"({"prompt": "a", "max_tokens": 1, "user": "u", "wibble": 1, "x y": 2})");
  EXPECT_EQ(answer->head.status, 200);
  EXPECT_EQ(find_header(answer->head.headers, "x-sabrewing-ignored"), "wibble");
}

TEST_F(ProtocolTest, InformationRoutes) {
  EXPECT_EQ(served().get("/health")->head.status, 200);
  EXPECT_EQ(served().get("/ready")->head.status, 200);
  EXPECT_EQ(parse_ordered_json(served().get("/version")->body, "version")["version"], "1.2.3");
  const OrderedJson models = parse_ordered_json(served().get("/v1/models")->body, "models");
  EXPECT_EQ(models["data"][0]["id"], "mini-qwen3");
  const OrderedJson info = parse_ordered_json(served().get("/server_info")->body, "info");
  EXPECT_EQ(info["modules"].size(), served().model.modules.size());
  EXPECT_TRUE(info["modules"][0]["kernel"].is_string());
  EXPECT_EQ(served().get("/nowhere")->head.status, 404);
  EXPECT_EQ(served().get(kText)->head.status, 405);
  ok(kText, {{"prompt", "a"}, {"max_tokens", 2}});
  const std::string metrics = served().get("/metrics")->body;
  for (const char* line :
       {"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"mini-qwen3\"",
        "# TYPE vllm:time_to_first_token_seconds histogram\n", "le=\"+Inf\"}",
        "vllm:request_success_total{model_name=\"mini-qwen3\",engine=\"0\",finished_reason=\"length\"}"})
    EXPECT_THAT(metrics, HasSubstr(line));
}

TEST(ProtocolOptions, KeysAndOrigins) {
  ServiceOptions options;
  options.api_keys = {"first", "second"};
  options.allowed_origins = {"http://here"};
  options.model_names = {"one", "two"};
  const ServedModel served("mini-qwen3", options);
  for (const char* open : {"/health", "/ping", "/ready"})
    EXPECT_EQ(served.get(open)->head.status, 200) << open;
  for (const char* key : {"", "Bearer ", "Bearer firs", "Bearer firstfirst", "Bearer third", "first"})
    for (const char* path : {"/v1/models", "/metrics", "/nowhere"})
      EXPECT_EQ(served.get(path, {{"Authorization", key}})->head.status, 401) << key << " " << path;
  for (const char* key : {"first", "second"}) {
    EXPECT_EQ(served.get("/v1/models", {{"authorization", std::string("Bearer ") + key}})->head.status, 200);
    EXPECT_EQ(served.get("/v1/models", {{"x-api-key", key}})->head.status, 200);
  }
  const std::vector<Header> key = {{"Authorization", "Bearer first"}};
  EXPECT_EQ(served.post(kText, R"({"prompt": "a", "max_tokens": 1, "model": "two"})", key)->head.status, 200);
  auto from = [&](const char* origin) {
    return served.get("/v1/models", {{"Authorization", "Bearer first"}, {"Origin", origin}})->head.headers;
  };
  EXPECT_EQ(find_header(from("http://here"), "Access-Control-Allow-Origin"), "http://here");
  EXPECT_EQ(find_header(from("http://there"), "Access-Control-Allow-Origin"), "");
  Request preflight;
  preflight.method = "OPTIONS";
  preflight.path = kChat;
  preflight.headers = {{"Origin", "http://here"}};
  EXPECT_EQ(served.ask(preflight)->head.status, 204);
  preflight.headers = {{"Origin", "http://there"}};
  EXPECT_EQ(served.ask(preflight)->head.status, 401);
}

TEST(ProtocolOptions, RefusesWhenTheQueueIsFullOrTheServerDrains) {
  engine::EngineOptions small;
  small.max_waiting = 2;
  small.max_num_seqs = 1;
  const ServedModel served("mini-qwen3", {}, small);
  const auto answer =
      served.post(kText, R"({"prompt": "a", "n": 100, "max_tokens": 2000, "ignore_eos": true})");
  EXPECT_EQ(answer->head.status, 503);
  EXPECT_EQ(find_header(answer->head.headers, "Retry-After"), "1");
  EXPECT_TRUE(served.engine->drain(std::chrono::seconds(30))) << "what had been accepted is not aborted";
  EXPECT_EQ(served.post(kText, R"({"prompt": "a"})")->head.status, 503);
}

TEST(ProtocolOptions, AClientThatLeavesFreesTheEngine) {
  const ServedModel served("mini-qwen3");
  Request request;
  request.method = "POST";
  request.path = kText;
  request.body = R"({"prompt": "a", "max_tokens": 30000, "ignore_eos": true, "stream": true, "n": 3})";
  const auto exchange = std::make_shared<FakeExchange>(std::move(request));
  dispatch(served.service, exchange);
  exchange->leave();
  exchange->wait();
  EXPECT_TRUE(served.engine->drain(std::chrono::seconds(30)));
  EXPECT_EQ(served.engine->stats().used_blocks, 0);
  EXPECT_EQ(served.engine->stats().finished[static_cast<std::size_t>(engine::FinishReason::kAborted)], 3u);
}

}  // namespace
}  // namespace sabrewing::server
