// Grammars are compiled beside the requests, not before them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "server_fixture.h"

namespace sabrewing::server {
namespace {

constexpr char kText[] = "/v1/completions";

std::string body(const std::string& more) {
  return R"({"prompt": "Ann", "max_tokens": 4, "temperature": 0)" + more + "}";
}

TEST(Compilation, WaitsForNobodyElse) {
  if (!text::grammar_supported()) GTEST_SKIP() << "built without grammars";
  const ServedModel served("mini-qwen3");
  const std::string known = body(R"(, "structured_outputs": {"choice": ["a", "b"]})");
  ASSERT_EQ(served.post(kText, known)->head.status, 200);

  // Every thread that compiles is busy.
  std::promise<void> go;
  const std::shared_future<void> gone = go.get_future().share();
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(served.service->compile_later([gone] { gone.wait(); }));
  EXPECT_EQ(served.post(kText, body(""))->head.status, 200);
  EXPECT_EQ(served.post(kText, known)->head.status, 200) << "is in the cache";
  Request request;
  request.method = "POST";
  request.path = kText;
  request.body = body(R"(, "structured_outputs": {"choice": ["c"]})");
  const auto waiting = std::make_shared<FakeExchange>(std::move(request));
  dispatch(served.service, waiting);
  EXPECT_EQ(waiting->responses, 0);

  while (served.service->compile_later([] {})) continue;
  const auto refused = served.post(kText, body(R"(, "structured_outputs": {"choice": ["d"]})"));
  EXPECT_EQ(refused->head.status, 503);
  EXPECT_EQ(find_header(refused->head.headers, "Retry-After"), "1");

  go.set_value();
  waiting->wait();
  EXPECT_EQ(waiting->head.status, 200) << waiting->body;
  EXPECT_EQ(parse_ordered_json(waiting->body, "answer")["choices"][0]["text"], "c");
}

TEST(Compilation, RefusalsReachTheClientInItsProtocol) {
  if (!text::grammar_supported()) GTEST_SKIP() << "built without grammars";
  const ServedModel served("mini-qwen3");
  const auto regex = served.post(kText, body(R"(, "stream": true, "structured_outputs": {"regex": "(a"})"));
  EXPECT_EQ(regex->head.status, 400);
  EXPECT_FALSE(regex->streamed);
  EXPECT_EQ(parse_ordered_json(regex->body, "answer")["error"]["param"], "structured_outputs.regex");
  const auto schema = served.post(
      "/v1/messages",
      R"({"messages": [{"role": "user", "content": "a"}], "max_tokens": 4, "output_config": {"format": {"type": "json_schema", "schema": {"type": "nothing"}}}})");
  EXPECT_EQ(schema->head.status, 400);
  const OrderedJson answer = parse_ordered_json(schema->body, "answer");
  EXPECT_EQ(answer["type"], "error");
  EXPECT_EQ(answer["error"]["type"], "invalid_request_error");
}

}  // namespace
}  // namespace sabrewing::server
