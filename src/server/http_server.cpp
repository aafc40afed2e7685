#include "server/http_server.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <csignal>
#include <mutex>
#include <set>

#include "core/log.h"
#include "server/errors.h"
#include "server/http_parser.h"
#include "text/utf8.h"

namespace sabrewing::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorValue = boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kReadBytes = 16 << 10;
constexpr std::size_t kWriteBytes = 64 << 10;
/// Read ahead of the request being handled.
constexpr std::size_t kPipelineBytes = 64 << 10;
constexpr const char* kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr std::chrono::milliseconds kLinger{2000};
constexpr std::chrono::milliseconds kAcceptPause{100};

/// Wakes the one coroutine that waits for it.
class Event {
 public:
  explicit Event(asio::io_context& io) : timer_(io) {}

  void set() {
    set_ = true;
    timer_.cancel();
  }
  /// False when `deadline` came first.
  asio::awaitable<bool> wait(Clock::time_point deadline = Clock::time_point::max()) {
    while (!set_ && Clock::now() < deadline) {
      timer_.expires_at(deadline);
      co_await timer_.async_wait(kAwait);
    }
    co_return std::exchange(set_, false);
  }

 private:
  asio::steady_timer timer_;
  bool set_ = false;
};

class Session;

class HttpExchange final : public Exchange, public std::enable_shared_from_this<HttpExchange> {
 public:
  HttpExchange(Request request, asio::io_context& io, std::weak_ptr<Session> session);

  void respond(Response response) override;
  void begin_stream(Response head) override;
  void write(std::string text) override;
  void end_stream() override;
  void post(std::function<void()> task) override;
  void on_gone(std::function<void()> callback) override;

  /// The client left. On the serving thread.
  void gone();

 private:
  template <typename Task>
  void dispatch(Task task);

  asio::io_context& io_;
  // Whoever holds an exchange last must not end the session, which belongs to the serving thread.
  const std::weak_ptr<Session> session_;
  std::mutex mutex_;
  std::function<void()> callback_;
  bool gone_ = false;
};

}  // namespace

struct HttpServer::Impl {
  Impl(const std::string& host, std::uint16_t wanted_port, const HttpLimits& its_limits);

  asio::awaitable<void> accept();
  void shut_down();
  void stop();
  void finish_if_idle() {
    if (closing && sessions.empty()) io.stop();
  }

  const HttpLimits limits;
  ExchangeHandler handler;
  std::function<void(int)> on_signal;
  int signal_count = 0;
  std::set<Session*> sessions;
  std::size_t all_body_bytes = 0;
  bool closing = false;
  mutable std::mutex counts_mutex;
  HttpCounts counts;
  // Last: sessions that end with it use the members above.
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  asio::signal_set signals{io};

  template <typename Change>
  void count(Change change) {
    const std::lock_guard lock(counts_mutex);
    change(counts);
    counts.open = sessions.size();
  }
  void wait_signal();
};

namespace {

using ServerImpl = HttpServer::Impl;

/// One connection: a coroutine reads, another one parses, hands over and writes.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(ServerImpl& server, tcp::socket socket, std::string peer)
      : server_(server),
        socket_(std::move(socket)),
        peer_(std::move(peer)),
        input_event_(server.io),
        consumed_event_(server.io),
        output_event_(server.io),
        watchdog_(server.io) {}
  ~Session() {
    server_.sessions.erase(this);
    server_.count([](HttpCounts&) {});
    server_.finish_if_idle();
  }

  bool busy() const { return busy_; }
  Clock::time_point last_active() const { return last_active_; }
  asio::awaitable<void> read();
  asio::awaitable<void> serve();
  /// Ends the connection after the answer under way, or now when there is none.
  void wind_down() {
    last_request_ = true;
    if (!busy_) close();
  }
  void close();

  // The answer under way.
  void begin(const HttpExchange* from, const Response& head, bool stream);
  void append(const HttpExchange* from, std::string_view text);
  void end(const HttpExchange* from);

 private:
  enum class Answer { kNone, kStream, kDone };

  asio::awaitable<bool> wait_input(Clock::time_point deadline);
  asio::awaitable<std::optional<Request>> read_request();
  asio::awaitable<void> answer(Request request);
  asio::awaitable<bool> send_output();
  asio::awaitable<bool> send(std::string text);
  asio::awaitable<void> linger();
  void hold_body(std::size_t bytes) {
    server_.all_body_bytes += bytes - held_body_;
    held_body_ = bytes;
  }
  std::string_view input() const { return std::string_view(input_).substr(input_start_); }
  void consume(std::size_t bytes);
  std::string head_text(const Response& head, bool stream);

  ServerImpl& server_;
  tcp::socket socket_;
  const std::string peer_;
  Event input_event_;
  Event consumed_event_;
  Event output_event_;
  asio::steady_timer watchdog_;
  std::string input_;
  std::size_t input_start_ = 0;
  std::size_t held_body_ = 0;
  bool discarding_ = false;
  bool input_ended_ = false;
  bool closed_ = false;
  bool busy_ = false;  ///< a request is being handled
  Clock::time_point last_active_ = Clock::now();
  bool last_request_ = false;

  std::shared_ptr<HttpExchange> exchange_;
  Answer answer_ = Answer::kNone;
  bool streaming_ = false;
  bool chunked_ = false;  ///< how a stream is sent
  bool head_only_ = false;
  bool keep_alive_ = false;
  int status_ = 0;
  std::string output_;
  std::size_t sent_bytes_ = 0;
};

// The exchange: every call goes to the serving thread.

HttpExchange::HttpExchange(Request request, asio::io_context& io, std::weak_ptr<Session> session)
    : Exchange(std::move(request)), io_(io), session_(std::move(session)) {}

template <typename Task>
void HttpExchange::dispatch(Task task) {
  asio::dispatch(io_, [self = shared_from_this(), task = std::move(task)]() mutable {
    if (const auto session = self->session_.lock()) task(*session, self.get());
  });
}

void HttpExchange::respond(Response response) {
  dispatch([response = std::move(response)](Session& session, const HttpExchange* self) {
    session.begin(self, response, false);
    session.append(self, response.body);
    session.end(self);
  });
}

void HttpExchange::begin_stream(Response head) {
  dispatch([head = std::move(head)](Session& session, const HttpExchange* self) {
    session.begin(self, head, true);
  });
}

void HttpExchange::write(std::string text) {
  dispatch(
      [text = std::move(text)](Session& session, const HttpExchange* self) { session.append(self, text); });
}

void HttpExchange::end_stream() {
  dispatch([](Session& session, const HttpExchange* self) { session.end(self); });
}

void HttpExchange::post(std::function<void()> task) {
  asio::post(io_, [self = shared_from_this(), task = std::move(task)] { task(); });
}

void HttpExchange::on_gone(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!gone_) {
      callback_ = std::move(callback);
      return;
    }
  }
  callback();
}

void HttpExchange::gone() {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    callback.swap(callback_);
  }
  if (callback) callback();
}

// The session.

void Session::close() {
  if (closed_) return;
  closed_ = true;
  ErrorValue ignored;
  ignored = socket_.close(ignored);
  watchdog_.cancel();
  input_ended_ = true;
  input_event_.set();
  consumed_event_.set();
  output_event_.set();
  if (const auto exchange = std::exchange(exchange_, nullptr)) exchange->gone();
}

void Session::consume(std::size_t bytes) {
  input_start_ += bytes;
  if (input_start_ == input_.size()) {
    input_.clear();
    input_start_ = 0;
  } else if (input_start_ > kPipelineBytes) {
    input_.erase(0, input_start_);
    input_start_ = 0;
  }
  consumed_event_.set();
}

asio::awaitable<void> Session::read() {
  const auto self = shared_from_this();
  std::string arrived(kReadBytes, '\0');
  bool ended = false;
  while (!closed_) {
    if (input().size() >= kPipelineBytes && !discarding_) {
      co_await consumed_event_.wait();
      continue;
    }
    const auto [error, count] = co_await socket_.async_read_some(asio::buffer(arrived), kAwait);
    if (error) {
      ended = error == asio::error::eof;
      break;
    }
    if (!discarding_) input_.append(arrived, 0, count);
    input_event_.set();
  }
  if (ended) {
    input_ended_ = true;
    input_event_.set();
    output_event_.set();
    // A client that closed its sending side only may still read. Ends with a reset, or when closed here.
    co_await socket_.async_wait(tcp::socket::wait_error, kAwait);
  }
  close();
}

/// False when `deadline` passed or nothing more will come.
asio::awaitable<bool> Session::wait_input(Clock::time_point deadline) {
  const std::size_t before = input().size();
  while (input().size() == before && !input_ended_ && !closed_)
    if (!co_await input_event_.wait(deadline)) co_return false;
  co_return input().size() != before;
}

/// The next request; nothing when the connection is at its end.
asio::awaitable<std::optional<Request>> Session::read_request() {
  const HttpLimits& limits = server_.limits;
  RequestParser parser(limits);
  std::optional<Response> refusal;
  Clock::time_point deadline = Clock::now() + limits.idle_time;
  bool started = false;
  bool continued = false;
  while (!parser.done() && !refusal) {
    if (!input().empty()) {
      if (!started) deadline = Clock::now() + limits.header_time;
      started = true;
      const bool had_header = parser.header_done();
      const std::size_t taken = parser.feed(input());
      consume(taken);
      refusal = parser.refusal();
      if (refusal || parser.done()) continue;
      if (parser.header_done()) {
        if (!had_header) deadline = Clock::now() + limits.body_time;
        hold_body(parser.body_bytes());
        if (server_.all_body_bytes > limits.all_body_bytes) {
          refusal = error_response(ApiError(503, "too many large requests at once"));
          continue;
        }
        if (!continued && parser.expects_continue() && input().empty()) {
          continued = true;
          if (!co_await send(kContinue)) co_return std::nullopt;
        }
      }
      if (taken > 0 && !input().empty()) continue;
    }
    if (co_await wait_input(deadline)) continue;
    if (closed_ || input_ended_ || !started) {
      close();
      co_return std::nullopt;
    }
    refusal = error_response(
        ApiError(408, parser.header_done() ? "the body took too long" : "the header took too long"));
  }
  if (!refusal) {
    hold_body(parser.body_bytes());
    Request request = parser.take();
    request.peer = peer_;
    co_return request;
  }
  log(LogLevel::kInfo, "{} refused: {}", peer_, refusal->status);
  keep_alive_ = false;
  co_await send(head_text(*refusal, false) + refusal->body);
  co_await linger();
  co_return std::nullopt;
}

/// Lets the client read an answer that came before it had sent everything.
asio::awaitable<void> Session::linger() {
  if (closed_) co_return;
  discarding_ = true;
  consumed_event_.set();
  ErrorValue ignored;
  ignored = socket_.shutdown(tcp::socket::shutdown_send, ignored);
  const Clock::time_point deadline = Clock::now() + kLinger;
  while (!input_ended_ && !closed_ && Clock::now() < deadline) co_await input_event_.wait(deadline);
  close();
}

std::string Session::head_text(const Response& head, bool stream) {
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", head.status, status_text(head.status));
  if (!head.content_type.empty()) text += fmt::format("Content-Type: {}\r\n", head.content_type);
  for (const Header& header : head.headers) text += fmt::format("{}: {}\r\n", header.name, header.value);
  if (stream)
    text += chunked_ ? "Transfer-Encoding: chunked\r\n" : "";
  else if (head.status != 204)
    text += fmt::format("Content-Length: {}\r\n", head.body.size());
  text += keep_alive_ ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return text;
}

void Session::begin(const HttpExchange* from, const Response& head, bool stream) {
  if (from != exchange_.get() || closed_ || answer_ != Answer::kNone) return;
  answer_ = Answer::kStream;
  status_ = head.status;
  if (last_request_ || (stream && !chunked_)) keep_alive_ = false;
  output_ += head_text(head, stream);
  streaming_ = stream;
  if (!stream) chunked_ = false;
  output_event_.set();
}

void Session::append(const HttpExchange* from, std::string_view text) {
  if (from != exchange_.get() || closed_ || answer_ != Answer::kStream || text.empty() || head_only_) return;
  if (streaming_ && output_.size() + text.size() > server_.limits.unsent_bytes) {
    log(LogLevel::kWarning, "{} does not take its answer: {} bytes unsent, connection closed", peer_,
        output_.size());
    server_.count([](HttpCounts& c) { ++c.cut_off; });
    return close();
  }
  if (chunked_) output_ += fmt::format("{:x}\r\n", text.size());
  output_ += text;
  if (chunked_) output_ += "\r\n";
  output_event_.set();
}

void Session::end(const HttpExchange* from) {
  if (from != exchange_.get() || closed_ || answer_ != Answer::kStream) return;
  if (chunked_ && !head_only_) output_ += "0\r\n\r\n";
  answer_ = Answer::kDone;
  output_event_.set();
}

asio::awaitable<bool> Session::send(std::string text) {
  for (std::size_t at = 0; at < text.size() && !closed_;) {
    watchdog_.expires_after(server_.limits.write_time);
    watchdog_.async_wait([weak = weak_from_this()](const ErrorValue& error) {
      const auto session = weak.lock();
      if (error || session == nullptr || session->closed_) return;
      log(LogLevel::kWarning, "{} does not take its answer, connection closed", session->peer_);
      session->server_.count([](HttpCounts& c) { ++c.cut_off; });
      session->close();
    });
    const std::size_t piece = std::min(kWriteBytes, text.size() - at);
    const auto [error, count] =
        co_await asio::async_write(socket_, asio::buffer(text.data() + at, piece), kAwait);
    watchdog_.cancel();
    at += count;
    sent_bytes_ += count;
    if (error) {
      close();
      co_return false;
    }
  }
  co_return !closed_;
}

asio::awaitable<void> Session::answer(Request request) {
  keep_alive_ = request.keep_alive && !last_request_;
  chunked_ = request.chunked_answers;
  const bool modern = request.chunked_answers;
  bool asked = false;
  head_only_ = request.method == "HEAD";
  const Clock::time_point start = Clock::now();
  const std::string what =
      fmt::format("{} {} {}", peer_, text::one_line(request.method, 16), text::one_line(request.path, 120));
  answer_ = Answer::kNone;
  status_ = 0;
  sent_bytes_ = 0;
  exchange_ = std::make_shared<HttpExchange>(std::move(request), server_.io, weak_from_this());
  server_.count([](HttpCounts& c) { ++c.requests; });
  server_.handler(std::shared_ptr<HttpExchange>(exchange_));
  while (!closed_ && (answer_ != Answer::kDone || !output_.empty())) {
    if (!output_.empty()) {
      co_await send(std::exchange(output_, {}));
    } else if (input_ended_ && answer_ == Answer::kNone && !asked) {
      // The client left, or closed its sending side only. One that left answers the next bytes with a reset:
      // an interim response, which HTTP/1.1 allows at any time and clients skip, asks for it.
      asked = true;
      if (modern)
        co_await send(kContinue);
      else
        close();
    } else {
      co_await output_event_.wait();
    }
  }
  exchange_.reset();
  output_.clear();
  hold_body(0);
  log(LogLevel::kInfo, "{} {} {} bytes {:.3f} s", what, closed_ ? "cut off" : std::to_string(status_),
      sent_bytes_, std::chrono::duration<double>(Clock::now() - start).count());
}

asio::awaitable<void> Session::serve() {
  const auto self = shared_from_this();
  while (!closed_ && !last_request_) {
    std::optional<Request> request = co_await read_request();
    if (!request) break;
    busy_ = true;
    co_await answer(std::move(*request));
    busy_ = false;
    last_active_ = Clock::now();
    if (!keep_alive_) {
      co_await linger();
      break;
    }
  }
  hold_body(0);
  close();
}

}  // namespace

// The server.

HttpServer::Impl::Impl(const std::string& host, std::uint16_t wanted_port, const HttpLimits& its_limits)
    : limits(its_limits) {
  const std::string where = fmt::format("{}:{}", host, wanted_port);
  const auto check = [&](const ErrorValue& error) {
    SABREWING_CHECK(!error, kIo, "[serve] cannot listen on {}: {}", where, error.message());
  };
  ErrorValue error;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(host, std::to_string(wanted_port), tcp::resolver::passive, error);
  check(error);
  const tcp::endpoint endpoint = *found.begin();
  check(acceptor.open(endpoint.protocol(), error));
  check(acceptor.set_option(tcp::acceptor::reuse_address(true), error));
  check(acceptor.bind(endpoint, error));
  check(acceptor.listen(asio::socket_base::max_listen_connections, error));
}

asio::awaitable<void> HttpServer::Impl::accept() {
  while (!closing) {
    auto [error, socket] = co_await acceptor.async_accept(kAwait);
    if (closing) break;
    if (error) {
      // Out of file descriptors, or the client left already.
      asio::steady_timer pause(io, kAcceptPause);
      co_await pause.async_wait(kAwait);
      continue;
    }
    ErrorValue ignored;
    const tcp::endpoint peer = socket.remote_endpoint(ignored);
    ignored = socket.set_option(tcp::no_delay(true), ignored);
    ignored = socket.set_option(asio::socket_base::keep_alive(true), ignored);
    if (sessions.size() >= limits.connections) {
      // The one that has been idle longest makes room.
      Session* idle = nullptr;
      for (Session* session : sessions)
        if (!session->busy() && (idle == nullptr || session->last_active() < idle->last_active()))
          idle = session;
      count([](HttpCounts& c) { ++c.turned_away; });
      if (idle == nullptr) {
        log(LogLevel::kWarning, "{} turned away: {} connections are busy", peer.address().to_string(),
            sessions.size());
        continue;
      }
      idle->close();
    }
    const auto session =
        std::make_shared<Session>(*this, std::move(socket), peer.address().to_string(ignored));
    sessions.insert(session.get());
    count([](HttpCounts& c) { ++c.accepted; });
    asio::co_spawn(io, [session] { return session->read(); }, asio::detached);
    asio::co_spawn(io, [session] { return session->serve(); }, asio::detached);
  }
}

void HttpServer::Impl::shut_down() {
  closing = true;
  ErrorValue ignored;
  ignored = acceptor.close(ignored);
  for (Session* session : std::vector<Session*>(sessions.begin(), sessions.end())) session->wind_down();
  finish_if_idle();
}

void HttpServer::Impl::stop() {
  shut_down();
  for (Session* session : std::vector<Session*>(sessions.begin(), sessions.end())) session->close();
  io.stop();
}

void HttpServer::Impl::wait_signal() {
  signals.async_wait([this](const ErrorValue& error, int) {
    if (error) return;
    wait_signal();
    on_signal(++signal_count);
  });
}

HttpServer::HttpServer(const std::string& host, std::uint16_t port, const HttpLimits& limits)
    : impl_(std::make_unique<Impl>(host, port, limits)) {}

HttpServer::~HttpServer() = default;

std::uint16_t HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }

std::string HttpServer::address() const {
  const tcp::endpoint endpoint = impl_->acceptor.local_endpoint();
  std::string host = endpoint.address().to_string();
  if (endpoint.address().is_v6()) host = "[" + host + "]";
  return fmt::format("{}:{}", host, endpoint.port());
}

void HttpServer::run(ExchangeHandler handler) {
  impl_->handler = std::move(handler);
  asio::co_spawn(impl_->io, impl_->accept(), asio::detached);
  const auto work = asio::make_work_guard(impl_->io);
  impl_->io.run();
}

void HttpServer::catch_signals(std::function<void(int)> on_signal) {
  impl_->on_signal = std::move(on_signal);
  impl_->signals.add(SIGINT);
  impl_->signals.add(SIGTERM);
  impl_->wait_signal();
}

void HttpServer::after(std::chrono::milliseconds delay, std::function<void()> task) {
  auto timer = std::make_shared<asio::steady_timer>(impl_->io, delay);
  timer->async_wait([timer, task = std::move(task)](const ErrorValue& error) {
    if (!error) task();
  });
}

void HttpServer::shut_down() {
  asio::post(impl_->io, [impl = impl_.get()] { impl->shut_down(); });
}

void HttpServer::stop() {
  asio::post(impl_->io, [impl = impl_.get()] { impl->stop(); });
}

HttpCounts HttpServer::counts() const {
  const std::lock_guard lock(impl_->counts_mutex);
  return impl_->counts;
}

}  // namespace sabrewing::server
