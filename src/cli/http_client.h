#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/json.h"

namespace sabrewing::cli {

/// "http://host:port/prefix" taken apart; `target` is empty or starts with a slash.
struct BaseUrl {
  std::string host;
  std::string port;
  std::string target;
};
/// A "/v1" at the end is dropped: routes bring their own. Throws `kInvalidArgument` for anything but plain
/// http.
BaseUrl parse_base_url(std::string_view url);

using Clock = std::chrono::steady_clock;

struct HttpRequest {
  std::string method = "POST";
  std::string target;
  std::string body;  ///< JSON; sent when not empty
  /// When set, the body of a 200 goes here as it arrives and is not kept.
  std::function<void(std::string_view piece, Clock::time_point when)> on_piece;
};

struct HttpResponse {
  int status = 0;  ///< 0: no answer
  std::string body;
  std::string error;  ///< why there is no whole answer
  Clock::time_point started;

  bool ok() const { return status == 200 && error.empty(); }
  /// One line for people: the error, or the status with the start of the body.
  std::string failure() const;
};

/// A client of one server: HTTP/1.1 over kept connections, one thread, no TLS. Not thread safe.
class HttpClient {
 public:
  struct Options {
    BaseUrl url;
    std::string api_key;                ///< sent as bearer token when not empty
    std::chrono::seconds timeout{600};  ///< without any progress
  };
  explicit HttpClient(Options options);

  HttpResponse send(HttpRequest request);

  /// What a run of many requests is made of; requests are numbered from 0.
  struct Load {
    std::int64_t count = 0;
    std::int64_t concurrency = 0;               ///< requests open at once; 0: no limit
    std::function<double(std::int64_t)> start;  ///< seconds after the begin, not falling; empty: at once
    std::function<HttpRequest(std::int64_t)> request;
    std::function<void(std::int64_t, HttpResponse)> done;
    std::function<bool()> stop;  ///< asked ten times a second; true ends the run without the rest
  };
  /// Sends every request at its time or when there is room, and returns when all are done. What the functions
  /// throw ends the run and is thrown from here.
  void send_all(const Load& load);

 private:
  Options options_;
};

/// What stands at a JSON pointer; null where nothing does.
Json value_at(const Json& json, const char* pointer);

/// The first model that GET /v1/models lists. Throws `Error`.
std::string first_served_model(HttpClient& client);

}  // namespace sabrewing::cli
