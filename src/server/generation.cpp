#include "server/generation.h"

#include <deque>
#include <mutex>
#include <utility>

#include "engine/grammar_mask.h"
#include "server/errors.h"
#include "server/routes.h"

namespace sabrewing::server {
namespace {

/// Carries updates from the engine's thread to the client's.
class Relay : public std::enable_shared_from_this<Relay> {
 public:
  Relay(const Service& service, ExchangePtr exchange, GenerationListener listener)
      : service_(service), exchange_(std::move(exchange)), listener_(std::move(listener)) {}

  void submit(engine::Request request, std::size_t index) {
    const engine::Submission submission = service_.submit(
        std::move(request), [self = shared_from_this(), index](const engine::RequestUpdate& update) {
          self->push(index, update);
        });
    if (!submission.refused.empty()) throw ApiError(503, submission.refused);
    const std::lock_guard lock(mutex_);
    ids_.push_back(submission.id);
    if (cancelled_) service_.engine().abort(submission.id);
  }

  /// Aborts what runs; the listener hears of it.
  void cancel() {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    for (const engine::RequestId id : ids_) service_.engine().abort(id);
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

  const Service& service_;
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

using GrammarPtr = std::shared_ptr<const text::Grammar>;

void start(const Service& service, const GenerationRequest& request, const GrammarPtr& grammar,
           const ExchangePtr& exchange, GenerationListener listener) {
  const auto relay = std::make_shared<Relay>(service, exchange, std::move(listener));
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
        if (grammar != nullptr)
          one.mask = std::make_shared<engine::GrammarMask>(grammar, request.restriction->marker,
                                                           service.model().eos_ids);
        relay->submit(std::move(one), index);
      }
    }
  } catch (...) {
    relay->discard();
    throw;
  }
  relay->open();
}

GrammarPtr compile(const Service& service, const GenerationRequest::Restriction& restriction) {
  try {
    return service.grammars(restriction.field.c_str()).compile(restriction.grammar);
  } catch (const Error& error) {
    ApiError refusal = to_api_error(error);
    refusal.param = restriction.field;
    throw refusal;
  }
}

}  // namespace

void start_generation(const std::shared_ptr<Service>& service, GenerationRequest request,
                      const ExchangePtr& exchange, GenerationListener listener) {
  if (!request.restriction) return start(*service, request, nullptr, exchange, std::move(listener));
  const std::string field = request.restriction->field;
  if (const GrammarPtr grammar = service->grammars(field.c_str()).find(request.restriction->grammar))
    return start(*service, request, grammar, exchange, std::move(listener));
  const bool taken = service->compile_later(
      [service, request = std::move(request), exchange, listener = std::move(listener)]() mutable {
        try {
          const GrammarPtr grammar = compile(*service, *request.restriction);
          start(*service, request, grammar, exchange, std::move(listener));
        } catch (...) {
          respond_error(*exchange, current_api_error());
        }
      });
  if (!taken) throw ApiError(503, field + ": too many grammars wait to be compiled", field);
}

}  // namespace sabrewing::server
