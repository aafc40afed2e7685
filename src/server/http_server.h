#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "server/http.h"

namespace sabrewing::server {

/// What an HTTP server has done so far.
struct HttpCounts {
  std::uint64_t accepted = 0;  ///< connections
  std::uint64_t turned_away = 0;
  std::uint64_t requests = 0;  ///< handed to the handler
  std::uint64_t cut_off = 0;   ///< clients that were too slow to take their answer
  std::size_t open = 0;        ///< connections now
};

/// HTTP/1.1 over TCP: one thread for all clients, a coroutine each. Requests of a connection are handled one
/// after the other, in order.
class HttpServer {
 public:
  /// Listens on `host` (a name or an address) and `port` (0: any). Throws `Error{kIo}` with the system's
  /// reason; clients wait until `run`.
  HttpServer(const std::string& host, std::uint16_t port, const HttpLimits& limits);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::uint16_t port() const;
  /// "127.0.0.1:8000"
  std::string address() const;

  /// Serves on the calling thread until every connection has ended after `shut_down`, or `stop`.
  void run(ExchangeHandler handler);

  /// Calls `on_signal` with 1, 2, ... on the serving thread at SIGINT and SIGTERM. Before `run`.
  void catch_signals(std::function<void(int count)> on_signal);
  /// Calls `task` on the serving thread after `delay`.
  void after(std::chrono::milliseconds delay, std::function<void()> task);

  // From any thread.
  /// Stops accepting and closes idle connections; the others close after their answer.
  void shut_down();
  /// Closes everything at once.
  void stop();
  HttpCounts counts() const;

  struct Impl;  // public for the session in the source file

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace sabrewing::server
