// A running server against clients that misbehave on the wire.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "socket_fixture.h"

namespace sabrewing::server {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

std::string get(const std::string& path, const std::string& more = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n";
}
std::string post(const std::string& path, const std::string& body) {
  return fmt::format("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", path, body.size(), body);
}
const std::string kLong = R"({"prompt": "Ann", "max_tokens": 20000, "ignore_eos": true, "stream": true})";
const std::string kLongPlain = R"({"prompt": "Ann", "max_tokens": 20000, "ignore_eos": true})";
const std::string kShort = R"({"prompt": "Ann", "max_tokens": 2})";

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

TEST(Socket, PipelinedRequestsAreAnsweredInOrder) {
  Running server;
  Client client(server);
  client.send(get("/health") + post("/v1/completions", kShort) + get("/nowhere") + get("/version") +
              post("/tokenize", "{}") + get("/ready", "Connection: close\r\n"));
  const std::string all = client.read_all();
  EXPECT_EQ(count(all, "HTTP/1.1 "), 6u);
  std::size_t at = 0;
  for (const char* part :
       {"\"ok\"", "text_completion", "404 Not Found", "version", "400 Bad Request", "\"ready\""}) {
    at = all.find(part, at);
    ASSERT_NE(at, std::string::npos) << part << "\n" << all;
  }
}

TEST(Socket, HeadAndOldClients) {
  Running server;
  Client head(server);
  head.send("HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(head.read_all().ends_with("\r\n\r\n"));
  Client old(server);
  const std::string body = R"({"prompt": "Ann", "max_tokens": 3, "stream": true})";
  old.send(fmt::format("POST /v1/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
  const std::string answer = old.read_all();
  EXPECT_THAT(answer, HasSubstr("Connection: close"));
  EXPECT_EQ(answer.find("chunked"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("data: [DONE]\n\n"));
}

TEST(Socket, HostileRequestsGetTheirStatusAndTheServerGoesOn) {
  Running server;
  const struct {
    std::string bytes;
    const char* status;
  } cases[] = {
      {"\x16\x03\x01\x02\x01 TLS", "400"},
      {std::string(100'000, '\n'), "400"},
      {"GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(10'000, 'a') + "\r\n\r\n", "431"},
      {"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n" +
           std::string(100'000, 'a'),
       "413"},
      {"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
           std::string("zz\r\n"),
       "400"},
      {"GET / HTTP/1.1\r\nHost: x\r\n", "408"},
      {"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", "408"},
  };
  for (const auto& one : cases) {
    Client client(server);
    client.send(one.bytes);
    const std::string answer = client.read_all();
    EXPECT_TRUE(answer.starts_with(std::string("HTTP/1.1 ") + one.status))
        << answer << one.bytes.substr(0, 60);
    EXPECT_THAT(answer, HasSubstr("{\"error\":{\"message\""));
    EXPECT_TRUE(client.ended);
    Client next(server);
    next.send(get("/health", "Connection: close\r\n"));
    EXPECT_THAT(next.read_all(), HasSubstr("200 OK"));
  }
}

TEST(Socket, SlowHeadersAndIdleConnectionsEnd) {
  Running server;
  Client idle(server);
  Client slow(server);
  const auto start = std::chrono::steady_clock::now();
  for (const char c : get("/health")) {
    slow.send({&c, 1});
    std::this_thread::sleep_for(milliseconds(40));
    if (std::chrono::steady_clock::now() - start > milliseconds(900)) break;
  }
  EXPECT_THAT(slow.read_all(), HasSubstr("408"));
  EXPECT_EQ(idle.read_all(), "") << "closed without a word";
  EXPECT_TRUE(idle.ended);
}

TEST(Socket, ExpectContinue) {
  Running server;
  Client client(server);
  client.send(fmt::format(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
      kShort.size()));
  EXPECT_THAT(client.read_to("\r\n\r\n"), HasSubstr("HTTP/1.1 100 Continue"));
  client.send(kShort);
  EXPECT_THAT(client.read_to("text_completion"), HasSubstr("200 OK"));
}

TEST(Socket, ConnectionsThatDoNothingMakeRoom) {
  Running server;
  std::vector<std::unique_ptr<Client>> idle;
  for (int i = 0; i < 100; ++i) idle.push_back(std::make_unique<Client>(server));
  Client client(server);
  client.send(get("/health", "Connection: close\r\n"));
  EXPECT_THAT(client.read_all(), HasSubstr("200 OK"));
  EXPECT_LE(server.http.counts().open, 64u);
}

TEST(Socket, LeavingAtAnyMomentFreesTheEngine) {
  Running server;
  const std::string whole = post("/v1/completions", kLong);
  for (std::size_t sent = 0; sent <= whole.size(); sent += sent < whole.size() ? 23 : 1) {
    Client client(server);
    client.send(whole.substr(0, sent));
    if (sent % 2 == 0) client.abort();
  }
  for (int i = 0; i < 6; ++i) {
    Client client(server);
    client.send(whole);
    if (i < 4) client.read_to(i < 2 ? "\r\n\r\n" : "data: {");
    if (i % 2 == 0) client.abort();
  }
  EXPECT_TRUE(server.idle());
  const engine::EngineStats stats = server.served.engine->stats();
  EXPECT_EQ(stats.finished[static_cast<std::size_t>(engine::FinishReason::kLength)], 0u)
      << "all were aborted";
  EXPECT_GE(stats.finished[static_cast<std::size_t>(engine::FinishReason::kAborted)], 4u);
}

TEST(Socket, LeavingWithoutAResetFreesTheEngine) {
  engine::EngineOptions one_at_a_time;
  one_at_a_time.max_num_seqs = 1;
  Running server(short_limits(), one_at_a_time);
  const auto finished = [&](engine::FinishReason reason) {
    return server.served.engine->stats().finished[static_cast<std::size_t>(reason)];
  };
  const auto wait_for = [&](auto reached) {
    for (int i = 0; i < 2000 && !reached(server.served.engine->stats()); ++i)
      std::this_thread::sleep_for(milliseconds(5));
    EXPECT_TRUE(reached(server.served.engine->stats()));
  };
  {
    Client decoding(server);
    decoding.send(post("/v1/completions", kLongPlain));
    wait_for([](const engine::EngineStats& stats) { return stats.running == 1; });
    {
      Client queued(server);
      queued.send(post("/v1/completions", kLongPlain));
      Client queued_stream(server);
      queued_stream.send(post("/v1/completions", kLong));
      wait_for([](const engine::EngineStats& stats) { return stats.waiting == 2; });
    }
    wait_for([](const engine::EngineStats& stats) { return stats.waiting == 0; });
    EXPECT_EQ(finished(engine::FinishReason::kAborted), 2u);
    EXPECT_EQ(server.served.engine->stats().running, 1) << "the other one goes on";
  }
  EXPECT_TRUE(server.idle());
  EXPECT_EQ(finished(engine::FinishReason::kAborted), 3u);
  EXPECT_EQ(finished(engine::FinishReason::kLength), 0u);
}

TEST(Socket, LeavingWhileThePromptIsComputedFreesTheEngine) {
  engine::EngineOptions small_steps;
  small_steps.max_num_seqs = 8;
  small_steps.max_num_batched_tokens = 8;
  Running server(short_limits(), small_steps);
  std::string prompt = "5";
  for (int i = 1; i < 8000; ++i) prompt += ",5";
  for (const char* stream : {"false", "true"}) {
    const std::uint64_t steps = server.served.engine->stats().steps;
    Client client(server);
    client.send(post("/v1/completions", fmt::format(R"({{"prompt": [{}], "stream": {}}})", prompt, stream)));
    for (int i = 0; i < 2000 && server.served.engine->stats().steps < steps + 3; ++i)
      std::this_thread::sleep_for(milliseconds(5));
    client.close();
    EXPECT_TRUE(server.idle());
  }
  const engine::EngineStats stats = server.served.engine->stats();
  EXPECT_EQ(stats.finished[static_cast<std::size_t>(engine::FinishReason::kAborted)], 2u);
  EXPECT_EQ(stats.generated_tokens, 0u);
}

TEST(Socket, ClientsThatOnlyReadOnAreAnswered) {
  Running server;
  const std::string stream = R"({"prompt": "Ann", "max_tokens": 100, "ignore_eos": true, "stream": true})";
  const std::string plain = R"({"prompt": "Ann", "max_tokens": 100, "ignore_eos": true})";
  for (const bool streams : {false, true}) {
    Client client(server);
    client.send(post("/v1/completions", streams ? stream : plain));
    client.half_close();
    std::string all = client.read_all();
    const std::string interim = "HTTP/1.1 100 Continue\r\n\r\n";
    if (all.starts_with(interim)) all.erase(0, interim.size());
    EXPECT_TRUE(all.starts_with("HTTP/1.1 200 OK\r\n")) << all;
    EXPECT_THAT(all, HasSubstr("\"finish_reason\":\"length\""));
    EXPECT_EQ(count(all, "100 Continue"), 0u) << "at most once, and first";
    EXPECT_TRUE(client.ended);
  }
  Client midway(server);
  midway.send(post("/v1/completions", stream));
  midway.read_to("data: {");
  midway.half_close();
  EXPECT_TRUE(midway.read_all().ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));
  Client pipelined(server);
  pipelined.send(post("/v1/completions", plain) + get("/nowhere") + post("/v1/completions", stream));
  pipelined.half_close();
  const std::string all = pipelined.read_all();
  EXPECT_EQ(count(all, "HTTP/1.1 200 OK"), 2u);
  EXPECT_EQ(count(all, "HTTP/1.1 404 Not Found"), 1u);
  // An old client knows no interim response: the end of what it sends is its end.
  Client old(server);
  old.send(fmt::format("POST /v1/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{}", kLongPlain.size(),
                       kLongPlain));
  old.half_close();
  EXPECT_EQ(old.read_all(), "");
  EXPECT_TRUE(server.idle());
  const engine::EngineStats stats = server.served.engine->stats();
  EXPECT_EQ(stats.finished[static_cast<std::size_t>(engine::FinishReason::kLength)], 5u);
}

TEST(Socket, AReaderThatStopsIsCutOff) {
  HttpLimits limits = short_limits();
  limits.unsent_bytes = 16 << 10;
  Running server(limits);
  Client stuck(server, 4096);
  stuck.send(post(
      "/v1/completions",
      R"({"prompt": "Ann", "n": 32, "max_tokens": 20000, "ignore_eos": true, "stream": true, "logprobs": 20})"));
  for (int i = 0; i < 3000 && server.http.counts().cut_off == 0; ++i) {
    // Others are served meanwhile.
    if (i % 50 == 0) {
      Client other(server);
      other.send(get("/health", "Connection: close\r\n"));
      EXPECT_THAT(other.read_all(), HasSubstr("200 OK"));
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_EQ(server.http.counts().cut_off, 1u);
  EXPECT_TRUE(server.idle());
}

TEST(Socket, DrainsAnswersUnderWayAndRefusesNewOnes) {
  Running server;
  Client idle(server);
  Client busy(server);
  busy.send(
      post("/v1/completions", R"({"prompt": "Ann", "max_tokens": 400, "ignore_eos": true, "stream": true})") +
      get("/health"));
  busy.read_to("data: {");
  server.http.shut_down();
  const std::string all = busy.read_all();
  EXPECT_THAT(all, HasSubstr("\"finish_reason\":\"length\""));
  EXPECT_THAT(all, HasSubstr("data: [DONE]"));
  EXPECT_EQ(count(all, "HTTP/1.1 "), 1u) << "the pipelined request is not begun";
  idle.read_all();
  EXPECT_TRUE(idle.ended);
}

TEST(Socket, OnePortOneServer) {
  const HttpServer first("127.0.0.1", 0, {});
  try {
    const HttpServer second("127.0.0.1", first.port(), {});
    ADD_FAILURE() << "a second server listens";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_THAT(error.what(), HasSubstr("Address already in use"));
  }
  EXPECT_THROW(HttpServer("no.such.host.invalid", 0, {}), Error);
}

}  // namespace
}  // namespace sabrewing::server
