#include "engine/throughput.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <random>
#include <set>

#include "core/clock.h"

namespace sabrewing::engine {

ThroughputResult measure_throughput(Engine& engine, const ThroughputOptions& options,
                                    const std::function<bool(std::int64_t requests)>& done) {
  SABREWING_CHECK(options.requests >= 1 && options.streams >= 1 && options.prompt_tokens >= 1 &&
                      options.output_tokens >= 1,
                  kInvalidArgument,
                  "[throughput] {} requests, {} streams, {} prompt and {} output tokens: at least 1 each",
                  options.requests, options.streams, options.prompt_tokens, options.output_tokens);
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<RequestUpdate> ended;
  const RequestSink sink = [&](const RequestUpdate& update) {
    if (!update.finished) return;
    const std::lock_guard lock(mutex);
    ended.push_back(update);
    changed.notify_one();
  };

  std::mt19937_64 random(options.seed);
  std::uniform_int_distribution<std::int32_t> token(0, static_cast<std::int32_t>(engine.vocabulary() - 1));
  std::vector<Request> requests(static_cast<std::size_t>(options.requests));
  for (Request& request : requests) {
    for (std::int64_t i = 0; i < options.prompt_tokens; ++i) request.prompt.push_back(token(random));
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = options.output_tokens;
  }

  ThroughputResult result;
  std::set<RequestId> open;
  std::optional<Error> error;
  bool stopped = false;
  const auto start = std::chrono::steady_clock::now();
  for (auto next = requests.begin(); next != requests.end() || !open.empty();) {
    const bool more = next != requests.end() && !stopped;
    if (more && static_cast<std::int64_t>(open.size()) < options.streams) {
      try {
        const Submission submission = engine.submit(std::move(*next++), sink);
        if (!submission.refused.empty())
          error = Error(ErrorCode::kInvalidArgument, "[throughput] " + submission.refused);
        else
          open.insert(submission.id);
      } catch (const Error& refused) {
        error = refused;
      }
      if (error) stopped = true;
      continue;
    }
    if (open.empty()) break;
    RequestUpdate update;
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return !ended.empty(); });
      update = std::move(ended.front());
      ended.pop_front();
    }
    open.erase(update.id);
    if (update.error && !error) error = update.error;
    if (update.reason != FinishReason::kAborted) {
      ++result.requests;
      result.prompt_tokens += update.usage.prompt_tokens;
      result.output_tokens += update.usage.completion_tokens;
    }
    if (!stopped && (error || (done && !done(result.requests)))) {
      stopped = true;
      for (const RequestId id : open) engine.abort(id);
    }
  }
  result.seconds = seconds_since(start);
  if (error) throw Error(*error);
  return result;
}

}  // namespace sabrewing::engine
