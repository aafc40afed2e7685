#include "cli/http_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <set>
#include <thread>

#include "core/error.h"

namespace sabrewing::cli {
namespace {

/// Answers each connection with the next of the scripts: one text per request, then closes.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::vector<std::vector<std::string>> scripts) : scripts_(std::move(scripts)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 64), 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedServer() {
    thread_.join();
    ::close(listener_);
  }
  HttpClient client() const {
    return HttpClient(
        {parse_base_url("http://127.0.0.1:" + std::to_string(port_)), "secret", std::chrono::seconds(5)});
  }
  std::string seen() const { return seen_; }

 private:
  void serve() {
    for (const std::vector<std::string>& script : scripts_) {
      const int socket = ::accept(listener_, nullptr, nullptr);
      for (const std::string& answer : script) {
        std::string request;
        char c = 0;
        while (request.find("\r\n\r\n") == std::string::npos && ::read(socket, &c, 1) == 1) request += c;
        seen_ += request;
        EXPECT_EQ(::write(socket, answer.data(), answer.size()), static_cast<ssize_t>(answer.size()));
      }
      ::close(socket);
    }
  }

  std::vector<std::vector<std::string>> scripts_;
  int listener_ = -1;
  int port_ = 0;
  std::string seen_;
  std::thread thread_;
};

const std::string kHello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

HttpRequest get() {
  HttpRequest request;
  request.method = "GET";
  request.target = "/x";
  return request;
}

TEST(HttpClient, ReadsBodiesOfEveryFraming) {
  ScriptedServer server(
      {{kHello},
       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"},
       {"HTTP/1.1 200 OK\r\n\r\nhello"},
       {"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"}});
  HttpClient client = server.client();
  for (int i = 0; i < 3; ++i) {
    const HttpResponse response = client.send(get());
    EXPECT_TRUE(response.ok()) << response.failure();
    EXPECT_EQ(response.body, "hello");
  }
  const HttpResponse response = client.send(get());
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.failure(), "status 404: no");
  EXPECT_NE(server.seen().find("Authorization: Bearer secret\r\n"), std::string::npos);
}

TEST(HttpClient, TellsWhatIsNoAnswer) {
  ScriptedServer server({{""},
                         {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"},
                         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"},
                         {"garbage\r\n\r\n"}});
  HttpClient client = server.client();
  for (const char* expected : {"no answer", "cut off", "cut off", "no answer"}) {
    const HttpResponse response = client.send(get());
    EXPECT_FALSE(response.ok());
    EXPECT_NE(response.failure().find(expected), std::string::npos) << response.failure();
  }
  EXPECT_NE(HttpClient({parse_base_url("http://127.0.0.1:1"), "", std::chrono::seconds(1)})
                .send(get())
                .failure()
                .find("cannot connect"),
            std::string::npos);
}

TEST(HttpClient, KeepsConnectionsAndReplacesClosedOnes) {
  ScriptedServer server({{kHello, kHello}, {kHello}});
  HttpClient client = server.client();
  std::set<std::int64_t> done;
  HttpClient::Load load;
  load.count = 3;
  load.concurrency = 1;
  load.request = [](std::int64_t) { return get(); };
  load.done = [&](std::int64_t i, const HttpResponse& response) {
    EXPECT_TRUE(response.ok()) << response.failure();
    done.insert(i);
  };
  client.send_all(load);
  EXPECT_EQ(done.size(), 3U);
}

TEST(HttpClient, KeepsTimesAndConcurrency) {
  ScriptedServer server({{kHello, kHello, kHello, kHello, kHello, kHello}});
  HttpClient client = server.client();
  const Clock::time_point begin = Clock::now();
  int open = 0;
  HttpClient::Load load;
  load.count = 6;
  load.concurrency = 1;
  load.start = [](std::int64_t i) { return 0.02 * static_cast<double>(i); };
  load.request = [&](std::int64_t i) {
    EXPECT_EQ(++open, 1);
    EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(20 * i));
    return get();
  };
  load.done = [&](std::int64_t, const HttpResponse&) { --open; };
  client.send_all(load);
}

TEST(HttpClient, ThrowsWhatACallbackThrowsAndStopsWhenTold) {
  ScriptedServer server({{kHello}});
  HttpClient client = server.client();
  HttpClient::Load load;
  load.count = 5;
  load.request = [](std::int64_t) -> HttpRequest { throw Error(ErrorCode::kCorrupt, "mine"); };
  load.done = [](std::int64_t, const HttpResponse&) {};
  EXPECT_THROW(client.send_all(load), Error);
  load.request = [](std::int64_t) { return get(); };
  load.start = [](std::int64_t i) { return 1000.0 * static_cast<double>(i); };
  std::atomic<int> asked = 0;
  load.stop = [&] { return ++asked > 2; };
  client.send_all(load);
  EXPECT_EQ(asked, 3);
}

TEST(HttpClient, FindsTheModelOfAServer) {
  const auto answer = [](const std::string& body) {
    return std::vector<std::string>{"HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) +
                                    "\r\n\r\n" + body};
  };
  ScriptedServer server({answer("{\"data\": [{\"id\": \"one\"}, {\"id\": \"two\"}]}"),
                         answer("{\"data\": []}"), answer("[1]"), answer("{\"data\": [{\"id\": 1}]}")});
  HttpClient client = server.client();
  EXPECT_EQ(first_served_model(client), "one");
  for (int i = 0; i < 3; ++i) EXPECT_THROW(first_served_model(client), Error);
}

TEST(HttpClient, Urls) {
  const BaseUrl plain = parse_base_url("http://host/");
  EXPECT_EQ(plain.host + "|" + plain.port + "|" + plain.target, "host|80|");
  const BaseUrl prefix = parse_base_url("http://[::1]:8000/a/b/");
  EXPECT_EQ(prefix.host + "|" + prefix.port + "|" + prefix.target, "::1|8000|/a/b");
  for (const char* url :
       {"https://host", "host:80", "http://", "http://host:", "http://host:x", "http://a@b", "http://[::1"})
    EXPECT_THROW(parse_base_url(url), Error) << url;
}

}  // namespace
}  // namespace sabrewing::cli
