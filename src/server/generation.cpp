#include "server/generation.h"

#include <deque>
#include <mutex>
#include <utility>

#include "core/log.h"
#include "server/errors.h"

namespace sabrewing::server {
namespace {

/// Carries updates from the engine's thread to the client's.
class Relay : public std::enable_shared_from_this<Relay> {
 public:
  Relay(engine::Engine& engine, ExchangePtr exchange, GenerationListener listener)
      : engine_(engine), exchange_(std::move(exchange)), listener_(std::move(listener)) {}

  void submit(engine::Request request, std::size_t index) {
    const engine::Submission submission = engine_.submit(
        std::move(request), [self = shared_from_this(), index](const engine::RequestUpdate& update) {
          self->push(index, update);
        });
    if (!submission.refused.empty()) throw ApiError(503, submission.refused);
    const std::lock_guard lock(mutex_);
    ids_.push_back(submission.id);
    if (cancelled_) engine_.abort(submission.id);
  }

  /// Aborts what runs; the listener hears of it.
  void cancel() {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    for (const engine::RequestId id : ids_) engine_.abort(id);
  }

  /// Aborts what runs and tells nobody.
  void discard() {
    cancel();
    const std::lock_guard lock(mutex_);
    pending_.clear();
    discarded_ = true;
  }

  /// From now on the listener is called.
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    schedule();
  }

 private:
  void push(std::size_t index, const engine::RequestUpdate& update) {
    const std::lock_guard lock(mutex_);
    if (discarded_) return;
    pending_.emplace_back(index, update);
    schedule();
  }

  void schedule() {
    if (!open_ || scheduled_ || pending_.empty()) return;
    scheduled_ = true;
    exchange_->post([self = shared_from_this()] { self->deliver(); });
  }

  void deliver() {
    for (;;) {
      std::deque<std::pair<std::size_t, engine::RequestUpdate>> batch;
      {
        const std::lock_guard lock(mutex_);
        if (pending_.empty()) {
          scheduled_ = false;
          return;
        }
        batch.swap(pending_);
      }
      for (const auto& [index, update] : batch) listener_(index, update);
    }
  }

  engine::Engine& engine_;
  const ExchangePtr exchange_;
  const GenerationListener listener_;
  std::mutex mutex_;
  std::vector<engine::RequestId> ids_;
  std::deque<std::pair<std::size_t, engine::RequestUpdate>> pending_;
  bool open_ = false;
  bool scheduled_ = false;
  bool cancelled_ = false;
  bool discarded_ = false;
};

}  // namespace

void start_generation(const Service& service, const GenerationRequest& request, const ExchangePtr& exchange,
                      GenerationListener listener) {
  const auto relay = std::make_shared<Relay>(service.engine(), exchange, std::move(listener));
  exchange->on_gone([weak = std::weak_ptr(relay)] {
    if (const auto held = weak.lock()) held->cancel();
  });
  try {
    std::size_t index = 0;
    for (const std::vector<std::int32_t>& prompt : request.prompts) {
      for (std::int64_t choice = 0; choice < request.choices; ++choice, ++index) {
        engine::Request one = request.common;
        if (one.sampling.seed) *one.sampling.seed += static_cast<std::uint64_t>(choice);
        one.prompt = prompt;
        if (request.make_mask) one.mask = request.make_mask();
        relay->submit(std::move(one), index);
      }
    }
  } catch (...) {
    relay->discard();
    throw;
  }
  relay->open();
}

}  // namespace sabrewing::server
