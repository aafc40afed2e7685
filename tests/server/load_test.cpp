// Many streams at once, some of which leave: nothing fails, nobody starves, nothing is left behind.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <random>

#include "socket_fixture.h"

#if defined(__has_feature)
#define SABREWING_CLANG_ASAN __has_feature(address_sanitizer)
#else
#define SABREWING_CLANG_ASAN 0
#endif

namespace sabrewing::server {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kStreams = 256;

/// Resident memory in bytes.
std::size_t resident() {
  std::size_t total = 0;
  std::size_t pages = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%zu %zu", &total, &pages) != 2) pages = 0;
  if (file != nullptr) std::fclose(file);
  return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

struct Tally {
  std::atomic<int> next{0};
  std::atomic<int> finished{0};
  std::atomic<int> left{0};
  std::atomic<int> failed{0};
  std::atomic<std::int64_t> worst_first_us{0};
};

/// One client: streams one after the other until `requests` were made in all.
void be_client(const Running& server, int number, int requests, Tally& tally) {
  std::mt19937 random(static_cast<unsigned>(number));
  std::unique_ptr<Client> client;
  while (tally.next++ < requests) {
    if (client == nullptr) client = std::make_unique<Client>(server);
    const std::string body = fmt::format(
        R"({{"prompt": "Ann has {} apples", "max_tokens": {}, "ignore_eos": true, "stream": true, "seed": {}}})",
        random() % 50, 1 + random() % 24, random() % 1000);
    const bool leaves = random() % 10 < 3;
    const std::size_t patience = random() % 2000;
    const Clock::time_point start = Clock::now();
    bool answered = client->send(fmt::format(
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
    bool seen = false;
    const std::string& text = client->read_until([&](const std::string& so_far) {
      if (!seen && so_far.find("data: ") != std::string::npos) {
        seen = true;
        const auto us = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count();
        std::int64_t worst = tally.worst_first_us;
        while (worst < us && !tally.worst_first_us.compare_exchange_weak(worst, us)) continue;
      }
      return (leaves && so_far.size() >= patience) || so_far.find("0\r\n\r\n") != std::string::npos;
    });
    answered = answered && client->connected && text.starts_with("HTTP/1.1 200") &&
               text.find("data: [DONE]") != std::string::npos;
    if (!answered && leaves && !client->ended) {
      ++tally.left;
      client->abort();
      client.reset();
    } else if (answered) {
      ++tally.finished;
      client->text().clear();
    } else {
      ++tally.failed;
      client.reset();
    }
  }
}

void run(Running& server, int requests, Tally& tally) {
  std::vector<std::thread> clients;
  for (int i = 0; i < kStreams; ++i) clients.emplace_back([&, i] { be_client(server, i, requests, tally); });
  for (std::thread& client : clients) client.join();
}

TEST(Load, StreamsAndAborts) {
  HttpLimits limits;
  limits.connections = 2 * kStreams;
  Running server(limits);
  Tally warm;
  run(server, kStreams, warm);
  const std::size_t before = resident();
  Tally tally;
  run(server, SABREWING_LOAD_REQUESTS, tally);
  EXPECT_TRUE(server.idle()) << "blocks are held by nobody's request";
  const engine::EngineStats stats = server.served.engine->stats();
  fmt::print(
      "{} streams, {} requests: {} finished, {} left, {} failed; worst first token {:.3f} s; memory {:.1f} "
      "-> "
      "{:.1f} MB; {} preemptions\n",
      kStreams, tally.finished + tally.left + tally.failed, tally.finished.load(), tally.left.load(),
      tally.failed.load(), static_cast<double>(tally.worst_first_us) / 1e6, static_cast<double>(before) / 1e6,
      static_cast<double>(resident()) / 1e6, stats.preemptions);
  EXPECT_EQ(tally.failed, 0);
  EXPECT_EQ(tally.finished + tally.left, SABREWING_LOAD_REQUESTS);
  EXPECT_GT(tally.left, 0);
  EXPECT_EQ(stats.used_blocks, 0);
  EXPECT_EQ(stats.finished[static_cast<std::size_t>(engine::FinishReason::kError)], 0u);
#if !defined(__SANITIZE_ADDRESS__) && !SABREWING_CLANG_ASAN  // keeps freed memory
  EXPECT_LT(resident(), before + (std::size_t{64} << 20)) << "memory grows";
#endif
}

}  // namespace
}  // namespace sabrewing::server
