// Feeds bytes to what reads a model's configuration: up to the first NUL as config.json, and as a merge patch
// over valid ones, the rest as generation_config.json. A configuration that is accepted is planned without
// weights. Only `Error` with a message of one line may come out, and planning takes memory for the plan
// alone.

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "engine/generation_config.h"
#include "engine/kv_cache.h"
#include "kernels/cpu/cpu_backend.h"
#include "models/architecture.h"
#include "models/decoder.h"
#include "models/dummy_source.h"

namespace {

using namespace sabrewing;

const std::array<Json, 3>& valid_configs() {
  static const std::array<Json, 3> configs{
      Json::parse(R"({"model_type": "gpt_oss", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 4096, "num_local_experts": 4, "num_experts_per_tok": 2,
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert":
          ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}})"),
      Json::parse(R"({"model_type": "qwen3", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 4096})"),
      Json::parse(
          R"({"model_type": "qwen3_moe", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 4096, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32})")};
  return configs;
}

void check_message(const Error& error) {
  const std::string_view text = error.what();
  const bool control = std::any_of(text.begin(), text.end(), [](char c) { return c >= 0 && c < 0x20; });
  if (text.empty() || control) __builtin_trap();
}

long peak_kilobytes() {
  struct rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

void plan(models::DecoderSpec spec, kernels::Accuracy accuracy) {
  // Planning is one pass over layers and experts: small counts show what large ones would.
  if (static_cast<std::int64_t>(spec.layers.size()) * std::max<std::int64_t>(spec.experts, 1) > 512) return;
  static const auto backend = kernels::cpu::make_cpu_backend({1, ""});
  static models::DummySource source(0, 1);
  const long before = peak_kilobytes();
  models::Decoder decoder(std::move(spec), *backend, accuracy);
  for (const models::ModuleReport& report : decoder.plan_modules(source))
    if (report.count < 1 || report.kernel.empty() || report.format.empty()) __builtin_trap();
  models::Decoder::Limits limits;
  limits.max_context = std::min<std::int64_t>(decoder.spec().max_positions, 32768);
  limits.max_tokens = std::min<std::int64_t>(512, limits.max_context);
  if (decoder.workspace_bytes(limits) == 0 || decoder.planned_weight_bytes() == 0 ||
      engine::KvCache::bytes(decoder, 16, (limits.max_context + 15) / 16) == 0)
    __builtin_trap();
  constexpr long kMostKilobytes = 256 << 10;
  if (peak_kilobytes() - before > kMostKilobytes) __builtin_trap();
}

void read_config(std::string_view text, std::string_view generation) {
  try {
    const models::DecoderSpec spec = models::parse_spec(text, "config.json");
    try {
      engine::parse_generation_config(generation, "generation_config.json", spec.vocabulary);
    } catch (const Error& error) {
      check_message(error);
    }
    plan(spec, kernels::Accuracy::kExact);
    plan(spec, kernels::Accuracy::kDefault);
  } catch (const Error& error) {
    check_message(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t split = std::min(text.find('\0'), text.size());
  const std::string_view config = text.substr(0, split);
  const std::string_view generation = split < text.size() ? text.substr(split + 1) : "{}";
  read_config(config, generation);
  try {
    const Json patch = parse_json(config, "config.json");
    if (!patch.is_object()) return 0;
    for (Json json : valid_configs()) {
      json.merge_patch(patch);
      read_config(json.dump(), generation);
    }
  } catch (const Error& error) {
    check_message(error);
  }
  return 0;
}
