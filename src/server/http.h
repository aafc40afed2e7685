#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sabrewing::server {

/// What one client may take. Times are without progress unless they say otherwise.
struct HttpLimits {
  std::size_t header_bytes = std::size_t{32} << 10;  ///< request line and fields
  std::size_t header_fields = 128;
  std::size_t body_bytes = std::size_t{32} << 20;       ///< one body
  std::size_t all_body_bytes = std::size_t{256} << 20;  ///< bodies being received or handled, together
  std::size_t connections = 1024;                       ///< open at once
  std::size_t unsent_bytes = std::size_t{4} << 20;      ///< of one answer, not yet taken by the client
  std::chrono::milliseconds header_time{10'000};        ///< from the first byte of a request to its body
  std::chrono::milliseconds body_time{60'000};          ///< for the whole body
  std::chrono::milliseconds idle_time{75'000};          ///< between requests
  std::chrono::milliseconds write_time{30'000};         ///< for at most 64 KiB of an answer
};

struct Header {
  std::string name;
  std::string value;
};

/// The value of the first header of that name, case ignored; empty when absent.
std::string_view find_header(const std::vector<Header>& headers, std::string_view name);

struct Request {
  std::string method;
  std::string path;   ///< of the target up to '?', percent-decoded
  std::string query;  ///< what follows it, as sent
  std::vector<Header> headers;
  std::string body;
  bool keep_alive = true;
  bool chunked_answers = true;  ///< false: HTTP/1.0
  std::string peer;             ///< the client's address

  std::string_view header(std::string_view name) const { return find_header(headers, name); }
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<Header> headers;
};

/// "Not Found"; "Unknown" for a status that no route uses.
std::string_view status_text(int status);

/// One request and the way to its answer: either `respond` once, or `begin_stream`, any number of `write`,
/// `end_stream`. Every method may be called from any thread; what comes after the end, or after the client
/// has left, is dropped.
class Exchange {
 public:
  explicit Exchange(Request request) : request_(std::move(request)) {}
  virtual ~Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  virtual const Request& request() const { return request_; }
  /// Frees the body once it has been read.
  virtual void drop_body() { std::string().swap(request_.body); }

  virtual void respond(Response response) = 0;
  /// `head.body` is ignored.
  virtual void begin_stream(Response head) = 0;
  virtual void write(std::string text) = 0;
  virtual void end_stream() = 0;

  /// Runs `task` on the thread that serves this client, tasks of one exchange in order.
  virtual void post(std::function<void()> task) = 0;
  /// Calls `callback` once, from any thread, when the client left or was cut off before the end of the
  /// answer; at once when that has happened.
  virtual void on_gone(std::function<void()> callback) = 0;

 private:
  Request request_;
};

using ExchangePtr = std::shared_ptr<Exchange>;
/// Takes a request on its way to an answer; must not block.
using ExchangeHandler = std::function<void(ExchangePtr)>;

}  // namespace sabrewing::server
