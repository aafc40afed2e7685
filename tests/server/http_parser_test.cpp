// Requests byte by byte and all at once, and what is refused.
#include "server/http_parser.h"

#include <gtest/gtest.h>

namespace sabrewing::server {
namespace {

/// Feeds `bytes` in pieces of `step`; the status of the refusal, 200 when a request came out, 0 when more is
/// wanted.
int status_of(const std::string& bytes, std::size_t step, Request* out = nullptr,
              std::size_t* rest = nullptr) {
  HttpLimits limits;
  limits.header_bytes = 1024;
  limits.header_fields = 8;
  limits.body_bytes = 100;
  RequestParser parser(limits);
  std::string held;
  for (std::size_t at = 0; at < bytes.size() && !parser.done() && !parser.refusal(); at += step) {
    held += bytes.substr(at, step);
    held.erase(0, parser.feed(held));
  }
  if (parser.refusal()) return parser.refusal()->status;
  if (!parser.done()) return 0;
  if (rest != nullptr) *rest = held.size();
  if (out != nullptr) *out = parser.take();
  return 200;
}

int both(const std::string& bytes) {
  const int whole = status_of(bytes, bytes.size());
  EXPECT_EQ(status_of(bytes, 1), whole) << bytes.substr(0, 80);
  EXPECT_EQ(status_of(bytes, 7), whole) << bytes.substr(0, 80);
  return whole;
}

TEST(RequestParser, TakesRequests) {
  for (const std::size_t step : {std::size_t{1}, std::size_t{5}, std::size_t{1000}}) {
    Request request;
    const std::string text =
        "POST /v1/completions?a=b HTTP/1.1\r\nHost: x\r\nX-Odd:   v  \r\nContent-Length: 5\r\n\r\nhello";
    ASSERT_EQ(status_of(text, step, &request), 200);
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.path, "/v1/completions");
    EXPECT_EQ(request.query, "a=b");
    EXPECT_EQ(request.header("x-odd"), "v");
    EXPECT_EQ(request.body, "hello");
    EXPECT_TRUE(request.keep_alive);
    ASSERT_EQ(status_of("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
                        "chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n",
                        step, &request),
              200);
    EXPECT_EQ(request.body, "abcde");
    ASSERT_EQ(status_of("GET / HTTP/1.0\r\n\r\n", step, &request), 200);
    EXPECT_FALSE(request.keep_alive);
    EXPECT_FALSE(request.chunked_answers);
    ASSERT_EQ(status_of("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", step, &request), 200);
    EXPECT_FALSE(request.keep_alive);
  }
}

TEST(RequestParser, Targets) {
  const auto target = [](const std::string& text) {
    Request request;
    const int status = status_of("GET " + text + " HTTP/1.1\r\nHost: x\r\n\r\n", 1000, &request);
    return status == 200 ? request.path + "|" + request.query : std::to_string(status);
  };
  EXPECT_EQ(target("/v1/models"), "/v1/models|");
  EXPECT_EQ(target("http://host:80/v1/models?a=%20"), "/v1/models|a=%20") << "what a proxy is sent";
  EXPECT_EQ(target("HTTP://host"), "/|");
  EXPECT_EQ(target("https://host?q"), "/|q");
  EXPECT_EQ(target("/?http://host/a"), "/|http://host/a");
  EXPECT_EQ(target("*"), "*|");
  EXPECT_EQ(target("/v1/%63hat%2Fcompletions"), "/v1/chat/completions|");
  EXPECT_EQ(target("/%00"), std::string("/\0|", 3));
  for (const char* bad : {"/%", "/%4", "/%zz", "/%+1", "/%-1"}) EXPECT_EQ(target(bad), "400") << bad;
}

TEST(RequestParser, LeavesWhatFollows) {
  std::size_t rest = 0;
  const std::string first = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::string second = "GET /b HTTP/1.1\r\n";
  ASSERT_EQ(status_of(first + second, 1000, nullptr, &rest), 200);
  EXPECT_EQ(rest, second.size());
  const std::string post = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab";
  ASSERT_EQ(status_of(post + second, 1000, nullptr, &rest), 200);
  EXPECT_EQ(rest, second.size());
}

TEST(RequestParser, Refuses) {
  const std::string host = "Host: x\r\n";
  EXPECT_EQ(both("GET / HTTP/1.1\r\n\r\n"), 400) << "no host";
  EXPECT_EQ(both("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"), 400);
  EXPECT_EQ(both("GET / HTTP/2.0\r\n" + host + "\r\n"), 505);
  EXPECT_EQ(both("nonsense\r\n\r\n"), 400);
  EXPECT_EQ(both(std::string(500, '\n')), 400);
  EXPECT_EQ(both(std::string("GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 28)), 400);
  EXPECT_EQ(both("GET / HTTP/1.1\r\n" + host + "bad header\r\n\r\n"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Length: 1e3\r\n\r\n"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\n"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 4\r\n\r\nabc"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Length: \r\n\r\nabc"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Length: 0x3\r\n\r\nabc"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"),
            400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n-1\r\n"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n\r\n"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"),
            400);
  EXPECT_EQ(
      both("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n2;" + std::string(2000, 'x')),
      400)
      << "an extension without end";
  EXPECT_EQ(both("GET / HTTP/1.1\r\n" + host + "A : b\r\n\r\n"), 400) << "a space before the colon";
  EXPECT_EQ(both("GET / HTTP/1.1\r\n" + host + std::string("A: b\0c\r\n\r\n", 10)), 400);
  EXPECT_EQ(both("GET  / HTTP/1.1\r\n" + host + "\r\n"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n"), 501);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"),
            400);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"), 415);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Expect: magic\r\nContent-Length: 1\r\n\r\nx"), 417);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Content-Length: 1073741824\r\n\r\n"), 413);
  EXPECT_EQ(both("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n7fffffff\r\nabc"), 413);
  EXPECT_EQ(both("GET /" + std::string(2000, 'a') + " HTTP/1.1\r\n" + host + "\r\n"), 431);
  EXPECT_EQ(both("GET / HTTP/1.1\r\n" + host + "A: " + std::string(2000, 'a')), 431) << "no end in sight";
  std::string many = "GET / HTTP/1.1\r\n" + host;
  for (int i = 0; i < 20; ++i) many += "A: b\r\n";
  EXPECT_EQ(both(many + "\r\n"), 431);
}

}  // namespace
}  // namespace sabrewing::server
