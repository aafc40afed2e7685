#include "cli/http_client.h"

#include <algorithm>
#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <exception>
#include <memory>
#include <vector>

#include "core/error.h"

namespace sabrewing::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;

constexpr std::size_t kBodyLimit = std::size_t{1} << 30;
constexpr std::size_t kShown = 300;

struct Connection {
  explicit Connection(asio::io_context& context) : stream(context) {}
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  bool used = false;
};

/// The state of one run: the connections that wait for their next request, and the requests that are open.
class Run {
 public:
  Run(asio::io_context& context, const HttpClient::Options& options)
      : context_(context), options_(options), resolver_(context) {}

  asio::awaitable<HttpResponse> exchange(HttpRequest request) {
    HttpResponse response;
    // A kept connection may have been closed by the server meanwhile: then once more on a new one.
    for (bool again = true; again;) {
      std::unique_ptr<Connection> connection;
      if (!idle_.empty()) {
        connection = std::move(idle_.back());
        idle_.pop_back();
      } else {
        connection = std::make_unique<Connection>(context_);
      }
      response = HttpResponse{};
      response.started = Clock::now();
      const bool kept = connection->used;
      bool answered = false;
      if (kept || co_await connect(*connection, response.error))
        answered = co_await talk(connection, request, response);
      again = kept && !answered;
    }
    co_return response;
  }

 private:
  asio::awaitable<bool> connect(Connection& connection, std::string& error) {
    error_code ec;
    if (endpoints_.empty()) {
      endpoints_ = co_await resolver_.async_resolve(options_.url.host, options_.url.port,
                                                    asio::redirect_error(asio::use_awaitable, ec));
      if (ec) {
        error = fmt::format("cannot resolve {}: {}", options_.url.host, ec.message());
        co_return false;
      }
    }
    connection.stream.expires_after(options_.timeout);
    co_await connection.stream.async_connect(endpoints_, asio::redirect_error(asio::use_awaitable, ec));
    if (!ec) ec = connection.stream.socket().set_option(Tcp::no_delay(true), ec);
    if (ec)
      error = fmt::format("cannot connect to {}:{}: {}", options_.url.host, options_.url.port, ec.message());
    co_return !ec;
  }

  /// False when the connection ended before the first byte of an answer.
  asio::awaitable<bool> talk(std::unique_ptr<Connection>& connection, const HttpRequest& request,
                             HttpResponse& response) {
    error_code ec;
    http::request<http::string_body> message(http::string_to_verb(request.method),
                                             options_.url.target + request.target, 11);
    const bool v6 = options_.url.host.find(':') != std::string::npos;
    message.set(http::field::host,
                (v6 ? "[" + options_.url.host + "]" : options_.url.host) + ":" + options_.url.port);
    message.set(http::field::user_agent, "sabrewing");
    if (!options_.api_key.empty()) message.set(http::field::authorization, "Bearer " + options_.api_key);
    if (!request.body.empty()) message.set(http::field::content_type, "application/json");
    message.body() = request.body;
    message.prepare_payload();
    connection->stream.expires_after(options_.timeout);
    co_await http::async_write(connection->stream, message, asio::redirect_error(asio::use_awaitable, ec));
    if (ec) {
      response.error = "cannot send: " + ec.message();
      co_return false;
    }
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(kBodyLimit);
    co_await http::async_read_header(connection->stream, connection->buffer, parser,
                                     asio::redirect_error(asio::use_awaitable, ec));
    if (ec) {
      response.error = "no answer: " + ec.message();
      co_return parser.got_some();
    }
    response.status = parser.get().result_int();
    const bool stream = request.on_piece && response.status == 200;
    std::array<char, 16384> space;
    while (!parser.is_done()) {
      parser.get().body().data = space.data();
      parser.get().body().size = space.size();
      connection->stream.expires_after(options_.timeout);
      co_await http::async_read_some(connection->stream, connection->buffer, parser,
                                     asio::redirect_error(asio::use_awaitable, ec));
      if (ec == http::error::need_buffer) ec = {};
      const std::string_view piece(space.data(), space.size() - parser.get().body().size);
      if (!piece.empty()) {
        if (stream)
          request.on_piece(piece, Clock::now());
        else
          response.body.append(piece);
      }
      if (ec) {
        response.error = "the answer was cut off: " + ec.message();
        co_return true;
      }
    }
    if (parser.get().keep_alive()) {
      connection->stream.expires_never();
      connection->used = true;
      idle_.push_back(std::move(connection));
    }
    co_return true;
  }

  asio::io_context& context_;
  const HttpClient::Options& options_;
  Tcp::resolver resolver_;
  Tcp::resolver::results_type endpoints_;
  std::vector<std::unique_ptr<Connection>> idle_;
};

class LoadRun {
 public:
  LoadRun(const HttpClient::Options& options, const HttpClient::Load& load)
      : load_(load), run_(context_, options), room_(context_), watch_(context_) {}

  void operator()() {
    begin_ = Clock::now();
    asio::co_spawn(context_, dispatch(), [this](const std::exception_ptr& error) { end(error); });
    if (load_.stop) asio::co_spawn(context_, watch(), asio::detached);
    context_.run();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  asio::awaitable<void> dispatch() {
    asio::steady_timer timer(context_);
    error_code ec;
    for (std::int64_t i = 0; i < load_.count; ++i) {
      if (load_.start) {
        timer.expires_at(begin_ + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(load_.start(i))));
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      }
      while (load_.concurrency > 0 && open_ >= load_.concurrency) {
        room_.expires_at(Clock::time_point::max());
        co_await room_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      }
      ++open_;
      asio::co_spawn(context_, one(i), [this](const std::exception_ptr& error) {
        --open_;
        ++ended_;
        room_.cancel();
        if (error || ended_ == load_.count) end(error);
      });
    }
    if (load_.count == 0) end({});
  }

  asio::awaitable<void> one(std::int64_t i) {
    HttpResponse response = co_await run_.exchange(load_.request(i));
    load_.done(i, std::move(response));
  }

  asio::awaitable<void> watch() {
    error_code ec;
    while (!load_.stop()) {
      watch_.expires_after(std::chrono::milliseconds(100));
      co_await watch_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    }
    context_.stop();
  }

  void end(const std::exception_ptr& error) {
    if (error && !error_) error_ = error;
    if (error || ended_ == load_.count) context_.stop();
  }

  const HttpClient::Load& load_;
  asio::io_context context_{1};
  Run run_;
  asio::steady_timer room_, watch_;
  Clock::time_point begin_;
  std::int64_t open_ = 0;
  std::int64_t ended_ = 0;
  std::exception_ptr error_;
};

}  // namespace

BaseUrl parse_base_url(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  SABREWING_CHECK(!url.starts_with("https://"), kInvalidArgument,
                  "[http] {}: https is not supported; use plain http or a proxy", url);
  SABREWING_CHECK(url.starts_with(kScheme), kInvalidArgument, "[http] {}: expected http://HOST[:PORT]", url);
  std::string_view rest = url.substr(kScheme.size());
  BaseUrl result;
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  result.target = rest.substr(slash);
  const auto trim = [&] {
    while (result.target.ends_with('/')) result.target.pop_back();
  };
  trim();
  if (result.target.ends_with("/v1")) result.target.resize(result.target.size() - 3);
  trim();
  rest = rest.substr(0, slash);
  const std::size_t bracket = rest.starts_with('[') ? rest.find(']') : 0;
  const std::size_t colon = bracket == std::string_view::npos ? bracket : rest.find(':', bracket);
  result.host = rest.substr(0, colon);
  result.port = colon == std::string_view::npos ? "80" : rest.substr(colon + 1);
  if (result.host.starts_with('[') && result.host.ends_with(']'))
    result.host = result.host.substr(1, result.host.size() - 2);
  const bool digits =
      !result.port.empty() && result.port.size() <= 5 &&
      std::all_of(result.port.begin(), result.port.end(), [](char c) { return c >= '0' && c <= '9'; });
  SABREWING_CHECK(!result.host.empty() && digits && result.host.find_first_of("[]@ ") == std::string::npos,
                  kInvalidArgument, "[http] {}: expected http://HOST[:PORT]", url);
  return result;
}

std::string HttpResponse::failure() const {
  if (!error.empty()) return error;
  std::string text = body.substr(0, kShown);
  std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < 32; }, ' ');
  return fmt::format("status {}: {}", status, text);
}

HttpClient::HttpClient(Options options) : options_(std::move(options)) {}

HttpResponse HttpClient::send(HttpRequest request) {
  HttpResponse result;
  Load load;
  load.count = 1;
  load.request = [&](std::int64_t) { return request; };
  load.done = [&](std::int64_t, HttpResponse response) { result = std::move(response); };
  send_all(load);
  return result;
}

void HttpClient::send_all(const Load& load) { LoadRun(options_, load)(); }

Json value_at(const Json& json, const char* pointer) {
  const Json::json_pointer place(pointer);
  return json.contains(place) ? json.at(place) : Json();
}

std::string first_served_model(HttpClient& client) {
  HttpRequest request;
  request.method = "GET";
  request.target = "/v1/models";
  const HttpResponse response = client.send(std::move(request));
  SABREWING_CHECK(response.ok(), kIo, "[http] /v1/models: {}", response.failure());
  const Json id = value_at(parse_json(response.body, "/v1/models"), "/data/0/id");
  SABREWING_CHECK(id.is_string(), kCorrupt, "[http] /v1/models names no model; give --model");
  return id.get<std::string>();
}

}  // namespace sabrewing::cli
