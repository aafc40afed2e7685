#pragma once

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <string_view>
#include <thread>

#include "server/server.h"
#include "server_fixture.h"

namespace sabrewing::server {

/// Limits that tests reach soon.
inline HttpLimits short_limits() {
  HttpLimits limits;
  limits.header_bytes = 4096;
  limits.body_bytes = 1 << 20;
  limits.connections = 64;
  limits.unsent_bytes = 256 << 10;
  limits.header_time = std::chrono::milliseconds(400);
  limits.body_time = std::chrono::milliseconds(400);
  limits.idle_time = std::chrono::milliseconds(1500);
  limits.write_time = std::chrono::milliseconds(800);
  return limits;
}

/// A server on any free port.
class Running {
 public:
  explicit Running(const HttpLimits& limits = short_limits(), engine::EngineOptions engine = {})
      : served("mini-qwen3", {}, engine), http("127.0.0.1", 0, limits) {
    thread_ = std::thread([this] { run_server(http, served.service, {}); });
  }
  ~Running() {
    http.stop();
    thread_.join();
  }
  /// Every block is free again.
  bool idle() {
    for (int i = 0; i < 2000; ++i) {
      const engine::EngineStats stats = served.engine->stats();
      if (stats.running + stats.waiting + stats.used_blocks == 0) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  ServedModel served;
  HttpServer http;

 private:
  std::thread thread_;
};

class Client {
 public:
  explicit Client(const Running& server, int receive_buffer = 0)
      : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0)
      setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server.http.port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected = connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  /// Reads until `done` says so, the end or `patience` without a byte.
  template <typename Done>
  std::string read_until(Done done, std::chrono::milliseconds patience = std::chrono::milliseconds(20'000)) {
    while (!done(text_)) {
      pollfd wait{socket_, POLLIN, 0};
      if (poll(&wait, 1, static_cast<int>(patience.count())) <= 0) break;
      char buffer[4096];
      const ssize_t got = recv(socket_, buffer, sizeof(buffer), 0);
      if (got <= 0) {
        ended = true;
        break;
      }
      text_.append(buffer, static_cast<std::size_t>(got));
    }
    return text_;
  }
  /// What was read and not forgotten.
  std::string& text() { return text_; }
  std::string read_all() {
    return read_until([](const std::string&) { return false; });
  }
  std::string read_to(const std::string& mark) {
    return read_until([&](const std::string& text) { return text.find(mark) != std::string::npos; });
  }
  void half_close() { shutdown(socket_, SHUT_WR); }
  /// Ends with a reset.
  void abort() {
    const linger hard{1, 0};
    setsockopt(socket_, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close();
  }
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

  bool connected = false;
  bool ended = false;

 private:
  int socket_;
  std::string text_;
};

}  // namespace sabrewing::server
