#include "engine/latency.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>

#include "core/clock.h"
#include "core/error.h"

namespace sabrewing::engine {
namespace {

/// Multiply-adds of the matrix products that the model has for one token, lm_head left out.
double multiply_adds_per_token(const models::DecoderSpec& spec) {
  const auto product = [](std::int64_t n, std::int64_t k) {
    return static_cast<double>(n) * static_cast<double>(k);
  };
  double total = 0;
  for (const models::LayerSpec& layer : spec.layers) {
    total +=
        product(spec.q_width() + 2 * spec.kv_width(), spec.hidden) + product(spec.hidden, spec.q_width());
    if (layer.sparse)
      total += product(spec.experts, spec.hidden) +
               3.0 * spec.top_k * product(spec.expert_intermediate, spec.hidden);
    else
      total += 3.0 * product(spec.intermediate, spec.hidden);
  }
  return total;
}

}  // namespace

TimingSummary summarise(std::vector<double> seconds) {
  TimingSummary summary;
  if (seconds.empty()) return summary;
  std::sort(seconds.begin(), seconds.end());
  const auto count = static_cast<double>(seconds.size());
  summary.fastest = seconds.front();
  summary.median = seconds[seconds.size() / 2];
  summary.mean = std::accumulate(seconds.begin(), seconds.end(), 0.0) / count;
  double squares = 0;
  for (const double value : seconds) squares += (value - summary.mean) * (value - summary.mean);
  summary.deviation = seconds.size() > 1 ? std::sqrt(squares / (count - 1)) : 0;
  return summary;
}

std::size_t weight_bytes_per_token(const LoadedModel& model) {
  const models::DecoderSpec& spec = model.decoder->spec();
  double bytes = 0;
  for (const models::ModuleReport& module : model.modules) {
    if (module.group == "embedding") continue;
    const double share =
        module.group == "experts" ? static_cast<double>(spec.top_k) / static_cast<double>(spec.experts) : 1.0;
    bytes += share * static_cast<double>(module.bytes);
  }
  return static_cast<std::size_t>(bytes);
}

LatencyResult measure_latency(LoadedModel& model, Generator& generator, const LatencyOptions& options,
                              const std::function<bool(std::int64_t, double)>& done) {
  SABREWING_CHECK(options.prompt_tokens + options.output_tokens <= generator.max_context(), kInvalidArgument,
                  "[bench] {} prompt and {} output tokens exceed the context of {}", options.prompt_tokens,
                  options.output_tokens, generator.max_context());
  LatencyResult result;
  result.bytes_per_token = weight_bytes_per_token(model);
  result.flops_per_prompt =
      2 * multiply_adds_per_token(model.decoder->spec()) * static_cast<double>(options.prompt_tokens);
  SamplingParams params;
  params.temperature = 0;
  params.ignore_eos = true;
  params.max_tokens = options.output_tokens;
  std::mt19937_64 random(options.seed);
  std::uniform_int_distribution<std::int32_t> any(
      0, static_cast<std::int32_t>(model.decoder->spec().vocabulary - 1));
  std::vector<double> prefill;
  std::vector<double> decode;
  for (std::int64_t repeat = 0; repeat < options.repeats; ++repeat) {
    std::vector<std::int32_t> prompt(static_cast<std::size_t>(options.prompt_tokens));
    for (std::int32_t& id : prompt) id = any(random);
    const auto start = std::chrono::steady_clock::now();
    auto last = start;
    bool first = true;
    const Generation generation = generator.generate(prompt, params, [&](const GeneratedToken&) {
      const double elapsed = seconds_since(last);
      last = std::chrono::steady_clock::now();
      if (!first) decode.push_back(elapsed);
      first = false;
      return true;
    });
    prefill.push_back(generation.prefill_seconds);
    if (done && !done(repeat, generation.prefill_seconds)) break;
  }
  result.prefill = summarise(prefill);
  result.decode = summarise(decode);
  return result;
}

}  // namespace sabrewing::engine
