// Clients that attack, all at once, beside one that asks for short answers and gets them as before.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>

#include "socket_fixture.h"

namespace sabrewing::server {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// An answer may take this long in the middle of it all, on a busy machine and under a sanitizer.
constexpr double kPatience = 3;
constexpr int kAsked = 150;

const std::string kHead = "POST /v1/completions HTTP/1.1\r\nHost: x\r\n";

std::string post(const std::string& body) {
  return fmt::format("{}Content-Length: {}\r\n\r\n{}", kHead, body.size(), body);
}
std::string stop_strings(int count) {
  std::string body = R"({"prompt": "Ann", "stop": ["x")";
  for (int i = 1; i < count; ++i) body += ",\"x\"";
  return body + "]}";
}

/// Sends `piece` until the server has heard enough, and gives what it said.
std::string flood(const Running& server, const std::string& head, const std::string& piece) {
  Client client(server);
  std::string answer;
  bool open = client.send(head);
  while (open && answer.empty()) {
    open = client.send(piece);
    answer = client.read_until([](const std::string& text) { return !text.empty(); }, milliseconds(0));
  }
  return client.read_to("\r\n\r\n");
}

struct Attack {
  const char* name;
  std::string status;  ///< of every answer; empty: none is due
  std::function<std::string(const Running&)> run;
};

std::string ask_once(const Running& server, const std::string& request) {
  Client client(server);
  client.send(request);
  return client.read_to("}}");
}

const std::vector<Attack>& attacks() {
  static const std::vector<Attack> list = {
      {"header without end", "431",
       [](const Running& s) {
         return flood(s, "GET / HTTP/1.1\r\nHost: x\r\n", "A: " + std::string(1000, 'a') + "\r\n");
       }},
      {"header line without end", "431",
       [](const Running& s) { return flood(s, "GET /", std::string(1000, 'a')); }},
      {"newlines before a request", "400",
       [](const Running& s) { return flood(s, "\n", std::string(1000, '\n')); }},
      {"body of a gigabyte", "413",
       [](const Running& s) {
         return flood(s, kHead + "Content-Length: 1073741824\r\n\r\n", std::string(100'000, 'a'));
       }},
      {"2^31 newlines", "413",
       [](const Running& s) {
         return flood(s, kHead + "Transfer-Encoding: chunked\r\n\r\n80000000\r\n",
                      std::string(1 << 20, '\n'));
       }},
      {"chunk header without end", "400",
       [](const Running& s) {
         return flood(s, kHead + "Transfer-Encoding: chunked\r\n\r\n1;", std::string(1000, 'x'));
       }},
      {"100,000 arrays", "400",
       [](const Running& s) { return ask_once(s, post(std::string(100'000, '['))); }},
      {"n of 10^9", "400",
       [](const Running& s) { return ask_once(s, post(R"({"prompt": "Ann", "n": 1000000000})")); }},
      {"10^6 stop strings", "400",
       [body = stop_strings(1'000'000)](const Running& s) { return ask_once(s, post(body)); }},
      {"header that drips", "408",
       [](const Running& s) {
         Client client(s);
         for (int i = 0; i < 60; ++i) {
           if (!client.send(i == 0 ? "GET / HTTP/1.1\r\nA: " : "a")) break;
           std::this_thread::sleep_for(milliseconds(10));
         }
         return client.read_to("\r\n\r\n");
       }},
      {"body that drips", "408",
       [](const Running& s) {
         Client client(s);
         for (int i = 0; i < 60; ++i) {
           if (!client.send(i == 0 ? kHead + "Content-Length: 1000\r\n\r\n" : " ")) break;
           std::this_thread::sleep_for(milliseconds(10));
         }
         return client.read_to("\r\n\r\n");
       }},
      {"connections that say nothing", "",
       [](const Running& s) {
         std::vector<std::unique_ptr<Client>> idle;
         for (int i = 0; i < 40; ++i) idle.push_back(std::make_unique<Client>(s));
         std::this_thread::sleep_for(milliseconds(200));
         return std::string();
       }},
      {"pipelined requests, no answer taken", "",
       [](const Running& s) {
         Client client(s);
         std::string many;
         for (int i = 0; i < 1000; ++i) many += "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
         client.send(many);
         client.abort();
         return std::string();
       }},
      {"streams that are left", "",
       [](const Running& s) {
         Client client(s);
         client.send(post(R"({"prompt": "Ann", "max_tokens": 20000, "ignore_eos": true, "stream": true})"));
         client.read_to("data: {");
         return std::string();
       }},
  };
  return list;
}

/// Seconds of each of `kAsked` short answers, sorted.
std::vector<double> ask(const Running& server) {
  const std::string request = post(R"({"prompt": "Ann", "max_tokens": 2, "ignore_eos": true})");
  std::vector<double> seconds;
  Client client(server);
  for (int i = 0; i < kAsked; ++i) {
    const Clock::time_point start = Clock::now();
    client.send(request);
    const std::string answer = client.read_to("}}");
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    EXPECT_THAT(answer, testing::StartsWith("HTTP/1.1 200")) << answer;
    if (client.ended) break;
    client.text().clear();
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

TEST(Hostile, OthersAreServedAsBefore) {
  HttpLimits limits = short_limits();
  limits.body_bytes = std::size_t{32} << 20;
  // Longer than the largest body takes on a busy machine.
  limits.header_time = milliseconds(2000);
  limits.body_time = milliseconds(5000);
  limits.connections = 1024;
  Running server(limits);
  const std::vector<double> alone = ask(server);

  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  std::vector<int> rounds(attacks().size());
  for (std::size_t i = 0; i < attacks().size(); ++i)
    threads.emplace_back([&, i] {
      const Attack& attack = attacks()[i];
      while (!over || rounds[i] == 0) {
        const std::string answer = attack.run(server);
        if (!attack.status.empty()) {
          EXPECT_THAT(answer, testing::StartsWith("HTTP/1.1 " + attack.status)) << attack.name;
        }
        ++rounds[i];
        std::this_thread::sleep_for(milliseconds(100));
      }
    });
  const std::vector<double> beside = ask(server);
  over = true;
  for (std::thread& thread : threads) thread.join();

  fmt::print(
      "an answer alone: median {:.2f} ms, worst {:.2f} ms; under attack: median {:.2f} ms, worst {:.2f} ms\n",
      alone[alone.size() / 2] * 1e3, alone.back() * 1e3, beside[beside.size() / 2] * 1e3,
      beside.back() * 1e3);
  EXPECT_EQ(beside.size(), static_cast<std::size_t>(kAsked));
  EXPECT_LT(beside.back(), kPatience);
  EXPECT_TRUE(server.idle());
  for (int i = 0; i < 500 && server.http.counts().open > 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(server.http.counts().open, 0u) << "connections are left";
}

}  // namespace
}  // namespace sabrewing::server
