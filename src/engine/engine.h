#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/metrics.h"
#include "engine/request.h"
#include "models/decoder.h"
#include "text/tokenizer.h"

namespace sabrewing::engine {

struct EngineOptions {
  /// Longest prompt and answer together. 0: what the model and the cache allow, at most `kDefaultContext`.
  std::int64_t max_context = 0;
  std::int64_t max_num_seqs = 256;             ///< requests in one step
  std::int64_t max_num_batched_tokens = 2048;  ///< tokens in one step, >= max_num_seqs
  std::int64_t max_chunk_tokens = 0;           ///< tokens of one prompt in one step; 0: only the step's limit
  std::int64_t max_waiting = 4096;             ///< requests in the queue; more are refused
  std::int64_t block_size = 16;                ///< tokens of a cache block
  std::int64_t kv_blocks = 0;                  ///< blocks of the cache; 0: as `kv_bytes` says
  std::size_t kv_bytes = std::size_t{1} << 30;
  bool prefix_caching = true;
  int sampling_threads = 0;  ///< 0: every processor, at most 4
};

/// The parts of a loaded model that an engine uses; they outlive it. Only the engine runs the decoder.
struct EngineModel {
  models::Decoder* decoder = nullptr;
  const text::Tokenizer* tokenizer = nullptr;  ///< null: tokens have no text, stop strings are refused
  std::vector<std::int32_t> eos_ids;
};

/// The answer to a submission: an id, or why there is no room now.
struct Submission {
  RequestId id = 0;
  std::string refused;  ///< empty when accepted
};

/// Answers many requests at once: continuous batching over one model on one thread of its own.
/// Every method may be called from any thread; `submit` and `abort` also from a sink.
class Engine {
 public:
  /// Allocates cache and scratch. Throws `kInvalidArgument` for options that contradict each other or hold
  /// no request.
  Engine(EngineModel model, const EngineOptions& options);
  /// As `stop`.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Bytes of cache and of scratch that such an engine takes.
  static std::size_t cache_bytes(const models::Decoder& decoder, const EngineOptions& options);
  static std::size_t workspace_bytes(const models::Decoder& decoder, const EngineOptions& options);

  /// Queues a request; its sink hears of it until an update says `finished`. Throws `kInvalidArgument` for an
  /// empty prompt, one that fills the context (with both numbers), ids outside the vocabulary, sampling
  /// parameters out of range, or stop strings without a tokenizer; the sink is not called then, nor when
  /// refused.
  Submission submit(Request request, RequestSink sink);

  /// Ends a request with `kAborted` before its next step; unknown and finished ids are ignored.
  void abort(RequestId id);

  EngineStats stats() const;

  /// Refuses new requests from now on and waits for those it has. False when some are left after `timeout`.
  bool drain(std::chrono::milliseconds timeout);
  /// Refuses new requests, aborts those it has and ends the thread. Not from a sink.
  void stop();

  std::int64_t max_context() const;
  std::int64_t vocabulary() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sabrewing::engine
