#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "server/http.h"

namespace sabrewing::server {

/// Reads one HTTP/1.x request from bytes as they come.
class RequestParser {
 public:
  explicit RequestParser(const HttpLimits& limits);
  ~RequestParser();
  RequestParser(RequestParser&&) noexcept;
  RequestParser& operator=(RequestParser&&) noexcept;

  /// Takes the beginning of `bytes` and returns how much; the rest is to be given again with what follows.
  std::size_t feed(std::string_view bytes);

  bool header_done() const;
  bool done() const;
  /// Set once the request is to be refused: 400, 411, 413, 415, 417, 431, 501 or 505, and why.
  const std::optional<Response>& refusal() const;
  /// Once the header is done: the client waits for "100 Continue".
  bool expects_continue() const;
  /// Body bytes that are held or announced.
  std::size_t body_bytes() const;

  /// The request, once `done`.
  Request take();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sabrewing::server
