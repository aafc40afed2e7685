#include "server/server.h"

#include <utility>

#include "core/log.h"
#include "server/routes.h"
#include "server/workers.h"

namespace sabrewing::server {
void run_server(HttpServer& http, const std::shared_ptr<Service>& service, const RunOptions& options) {
  service->http_counts = [&http] { return http.counts(); };
  if (options.catch_signals)
    http.catch_signals([&](int count) {
      if (count > 1) {
        log(LogLevel::kWarning, "second signal: ending now");
        return http.stop();
      }
      log(LogLevel::kInfo, "draining: requests under way have {} s; a second signal ends at once",
          options.drain_time.count() / 1000);
      service->draining = true;
      service->engine().drain(std::chrono::milliseconds(0));
      http.shut_down();
      http.after(options.drain_time, [&http] {
        log(LogLevel::kWarning, "some answers are not done in time: ending now");
        http.stop();
      });
    });
  {
    Workers workers(options.workers);
    http.run([&](ExchangePtr exchange) {
      // What needs no model must not wait behind long prompts.
      if (exchange->request().method == "POST")
        workers.push([service, exchange = std::move(exchange)] { dispatch(service, exchange); });
      else
        dispatch(service, exchange);
    });
    service->draining = true;
    service->engine().stop();
  }
  service->http_counts = nullptr;
}

}  // namespace sabrewing::server
