#pragma once

#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/mapped_file.h"
#include "engine/engine.h"
#include "kernels/cpu/cpu_backend.h"
#include "models/architecture.h"
#include "models/checkpoint_source.h"

namespace sabrewing::engine {

using Ids = std::vector<std::int32_t>;

/// One of the small checkpoints in exact mode, with the cases of its reference.json.
struct MiniModel {
  struct Case {
    Ids prompt;
    Ids greedy;
  };

  std::unique_ptr<kernels::Backend> backend;
  std::unique_ptr<models::Decoder> decoder;
  std::unique_ptr<text::Tokenizer> tokenizer;
  Ids eos_ids;
  std::vector<Case> cases;

  explicit MiniModel(const std::string& name, models::TensorSource* other_source = nullptr) {
    const std::filesystem::path folder = std::filesystem::path(SABREWING_SOURCE_DIR) / "models" / name;
    models::DecoderSpec spec = models::read_spec(folder / "config.json");
    for (const std::int64_t id : spec.eos_ids) eos_ids.push_back(static_cast<std::int32_t>(id));
    backend = kernels::cpu::make_cpu_backend({2, ""});
    decoder = std::make_unique<models::Decoder>(std::move(spec), *backend, kernels::Accuracy::kExact);
    models::CheckpointSource source(folder);
    decoder->load(other_source != nullptr ? *other_source : source, {});
    tokenizer = std::make_unique<text::Tokenizer>(text::Tokenizer::from_file(folder / "tokenizer.json"));
    const Json reference = parse_json(read_text_file(folder / "reference.json", std::size_t{64} << 20), name);
    for (const char* list : {"cases", "cases_without_thinking"})
      if (reference.contains(list))
        for (const Json& one : reference[list]) cases.push_back({one["prompt_ids"], one["greedy_ids"]});
  }

  EngineModel engine_model() const { return {decoder.get(), tokenizer.get(), eos_ids}; }

  static MiniModel& get(const std::string& name) {
    static std::map<std::string, std::unique_ptr<MiniModel>> loaded;
    auto& model = loaded[name];
    if (model == nullptr) model = std::make_unique<MiniModel>(name);
    return *model;
  }
};

/// All that a request's sink heard.
struct Answer {
  Ids ids;
  std::string text;
  std::vector<float> logprobs;  ///< of the tokens, when asked for
  std::vector<TokenLogprobs> prompt_logprobs;
  int finishes = 0;
  RequestUpdate last;
};

/// Collects answers by the number that the sender gave.
class Collector {
 public:
  RequestSink sink(std::size_t number) {
    return [this, number](const RequestUpdate& update) {
      const std::lock_guard lock(mutex_);
      Answer& answer = answers_[number];
      for (const OutputToken& token : update.tokens) {
        answer.ids.push_back(token.id);
        answer.text += token.text;
        answer.logprobs.push_back(token.logprobs.chosen.logprob);
      }
      answer.prompt_logprobs.insert(answer.prompt_logprobs.end(), update.prompt_logprobs.begin(),
                                    update.prompt_logprobs.end());
      if (!update.finished) return;
      ++answer.finishes;
      answer.last = update;
      ++finished_;
      changed_.notify_all();
    };
  }

  /// Waits until `count` requests ended.
  std::map<std::size_t, Answer> wait(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return finished_ >= count; });
    return answers_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t finished_ = 0;
  std::map<std::size_t, Answer> answers_;
};

inline Request greedy(Ids prompt, std::int64_t max_tokens, bool ignore_eos = true) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = ignore_eos;
  return request;
}

/// Submits all at once and waits for all.
inline std::vector<Answer> ask(Engine& engine, const std::vector<Request>& requests) {
  Collector collector;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Submission submission = engine.submit(requests[i], collector.sink(i));
    SABREWING_CHECK(submission.refused.empty(), kInternal, "{}", submission.refused);
  }
  std::vector<Answer> answers;
  for (auto& [number, answer] : collector.wait(requests.size())) answers.push_back(std::move(answer));
  return answers;
}

inline Answer ask(Engine& engine, const Request& request) {
  return ask(engine, std::vector<Request>{request})[0];
}

}  // namespace sabrewing::engine
