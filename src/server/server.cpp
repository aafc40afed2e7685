#include "server/server.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "core/log.h"
#include "server/routes.h"

namespace sabrewing::server {
namespace {

/// Threads that run tasks in the order they came. As many tasks wait as there are connections.
class Workers {
 public:
  explicit Workers(int count) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([this] { run(); });
  }
  /// Drops what waits.
  ~Workers() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      tasks_.clear();
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void push(std::function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
  }

 private:
  void run() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return ending_ || !tasks_.empty(); });
        if (ending_) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

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
