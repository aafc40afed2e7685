#pragma once

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/json.h"
#include "engine/engine.h"
#include "engine/loader.h"
#include "server/routes.h"
#include "server/service.h"

namespace sabrewing::server {

/// An exchange without a socket. Tasks run on the thread that waits.
class FakeExchange final : public Exchange {
 public:
  explicit FakeExchange(Request request) : Exchange(std::move(request)) {}

  void respond(Response response) override {
    const std::lock_guard lock(mutex_);
    ++responses;
    head = response;
    body = response.body;
    ended_ = true;
    changed_.notify_all();
  }
  void begin_stream(Response response) override {
    const std::lock_guard lock(mutex_);
    ++responses;
    head = std::move(response);
    streamed = true;
  }
  void write(std::string text) override {
    const std::lock_guard lock(mutex_);
    body += text;
  }
  void end_stream() override {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  void post(std::function<void()> task) override {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }
  void on_gone(std::function<void()> callback) override {
    const std::lock_guard lock(mutex_);
    callback_ = std::move(callback);
  }

  void leave() {
    std::function<void()> callback;
    {
      const std::lock_guard lock(mutex_);
      callback.swap(callback_);
    }
    if (callback) callback();
  }
  /// Runs tasks until the answer has ended.
  void wait() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return ended_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  Response head;
  std::string body;
  bool streamed = false;
  int responses = 0;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::function<void()> callback_;
  bool ended_ = false;
};

/// The parsers of Qwen3's tool calls and reasoning.
inline ServiceOptions qwen3_options() {
  ServiceOptions options;
  options.tool_parser = "hermes";
  options.reasoning_parser = "qwen3";
  return options;
}

/// One of the small checkpoints in exact mode behind an engine and a service.
struct ServedModel {
  engine::LoadedModel model;
  std::unique_ptr<engine::Engine> engine;
  std::shared_ptr<Service> service;

  explicit ServedModel(const std::string& name, ServiceOptions options = {},
                       engine::EngineOptions engine_options = {}) {
    engine::LoadOptions load;
    load.model = std::filesystem::path(SABREWING_SOURCE_DIR) / "models" / name;
    load.device = "cpu";
    load.accuracy = kernels::Accuracy::kExact;
    model = engine::open_model(load);
    engine::load_weights(model, load);
    engine_options.kv_bytes = std::size_t{128} << 20;
    engine = std::make_unique<engine::Engine>(
        engine::EngineModel{model.decoder.get(), model.tokenizer.get(), model.eos_ids}, engine_options);
    if (options.model_names.empty()) options.model_names = {name};
    options.version = "1.2.3";
    service = std::make_shared<Service>(model, *engine, std::move(options));
  }

  std::shared_ptr<FakeExchange> ask(Request request) const {
    const auto exchange = std::make_shared<FakeExchange>(std::move(request));
    dispatch(service, exchange);
    exchange->wait();
    return exchange;
  }
  std::shared_ptr<FakeExchange> post(const std::string& path, const std::string& body,
                                     std::vector<Header> headers = {}) const {
    Request request;
    request.method = "POST";
    request.path = path;
    request.headers = std::move(headers);
    request.body = body;
    return ask(std::move(request));
  }
  std::shared_ptr<FakeExchange> get(const std::string& path, std::vector<Header> headers = {}) const {
    Request request;
    request.method = "GET";
    request.path = path;
    request.headers = std::move(headers);
    return ask(std::move(request));
  }
};

/// The objects of "data:" lines; "[DONE]" is a JSON string.
inline std::vector<OrderedJson> events_of(const std::string& body) {
  std::vector<OrderedJson> events;
  for (std::size_t at = 0; at < body.size();) {
    const std::size_t end = body.find("\n\n", at);
    SABREWING_CHECK(end != std::string::npos && body.compare(at, 6, "data: ") == 0, kInternal,
                    "not an event: {}", body.substr(at, 80));
    const std::string data = body.substr(at + 6, end - at - 6);
    events.push_back(data == "[DONE]" ? OrderedJson(data) : parse_ordered_json(data, "event"));
    at = end + 2;
  }
  return events;
}

}  // namespace sabrewing::server
