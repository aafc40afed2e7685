#pragma once

#include <chrono>
#include <memory>

#include "server/http_server.h"
#include "server/service.h"

namespace sabrewing::server {

struct RunOptions {
  int workers = 4;                               ///< threads that read requests: JSON, templates, tokenizing
  std::chrono::milliseconds drain_time{30'000};  ///< for the answers under way once the server is to end
  bool catch_signals = false;                    ///< SIGINT and SIGTERM drain; a second one ends at once
};

/// Serves until `HttpServer::shut_down` or `stop`, or a signal. Every request of the service is over, and its
/// engine stopped, when this returns.
void run_server(HttpServer& http, const std::shared_ptr<Service>& service, const RunOptions& options);

}  // namespace sabrewing::server
