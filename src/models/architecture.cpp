#include "models/architecture.h"

#include <array>

#include "core/error.h"
#include "core/mapped_file.h"
#include "core/printable.h"
#include "models/gpt_oss.h"
#include "models/qwen3.h"
#include "models/qwen3_moe.h"

namespace sabrewing::models {
namespace {

constexpr std::size_t kConfigLimit = std::size_t{16} << 20;
constexpr std::int64_t kMaxLayers = 1024;
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
constexpr std::int64_t kMaxVocabulary = std::int64_t{1} << 24;
constexpr std::int64_t kMaxPositions = std::int64_t{1} << 30;

const std::array<const Architecture*, 3>& architectures() {
  static const GptOss gpt_oss;
  static const Qwen3 qwen3;
  static const Qwen3Moe qwen3_moe;
  static const std::array<const Architecture*, 3> all{&gpt_oss, &qwen3, &qwen3_moe};
  return all;
}

}  // namespace

const Architecture& find_architecture(std::string_view model_type, std::string_view where) {
  for (const Architecture* architecture : architectures())
    if (architecture->model_type() == model_type) return *architecture;
  fail(ErrorCode::kUnsupported, "[config] {}: model_type {} is not supported; supported: {}", where,
       printable(model_type),
       fmt::format("{}, {}, {}", architectures()[0]->model_type(), architectures()[1]->model_type(),
                   architectures()[2]->model_type()));
}

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const Architecture* architecture : architectures()) names.emplace_back(architecture->model_type());
  return names;
}

formats::WeightFormat Architecture::expert_format(const DecoderSpec&, const TensorSource&,
                                                  std::int64_t) const {
  fail(ErrorCode::kInternal, "[load] {} has no experts", model_type());
}

ExpertTensors Architecture::take_experts(const DecoderSpec&, TensorSource&, std::int64_t) const {
  fail(ErrorCode::kInternal, "[load] {} has no experts", model_type());
}

DecoderSpec read_spec(const std::filesystem::path& config_file) {
  return parse_spec(read_text_file(config_file, kConfigLimit), config_file.string());
}

DecoderSpec parse_spec(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  ConfigReader config(json, where);
  const Architecture& architecture = find_architecture(config.text("model_type"), where);
  DecoderSpec spec = architecture.read(config);
  spec.model_type = architecture.model_type();
  // Fields without influence on a forward pass.
  config.ignore({"architectures",
                 "attention_dropout",
                 "bos_token_id",
                 "dtype",
                 "initial_context_length",
                 "initializer_range",
                 "is_encoder_decoder",
                 "keys_to_ignore_at_inference",
                 "output_router_logits",
                 "pad_token_id",
                 "router_aux_loss_coef",
                 "torch_dtype",
                 "transformers_version",
                 "use_cache",
                 "_name_or_path",
                 "id2label",
                 "label2id",
                 "problem_type",
                 "return_dict",
                 "chunk_size_feed_forward",
                 "output_attentions",
                 "output_hidden_states"});
  spec.unknown_fields = config.unread();
  return spec;
}

void read_common(ConfigReader& config, DecoderSpec& spec, std::int64_t default_head_dim, double default_theta,
                 const Json& default_scaling) {
  spec.vocabulary = config.integer("vocab_size", 1, kMaxVocabulary);
  spec.hidden = config.integer("hidden_size", 1, kMaxWidth);
  spec.layers.resize(static_cast<std::size_t>(config.integer("num_hidden_layers", 1, kMaxLayers)));
  spec.q_heads = config.integer("num_attention_heads", 1, 4096);
  spec.kv_heads = config.integer_or("num_key_value_heads", spec.q_heads, 1, 4096);
  if (spec.q_heads % spec.kv_heads != 0)
    config.reject("num_key_value_heads", fmt::format("is {}, which does not divide num_attention_heads {}",
                                                     spec.kv_heads, spec.q_heads));
  if (config.find("head_dim") == nullptr && default_head_dim == 0 && spec.hidden % spec.q_heads != 0)
    config.reject("num_attention_heads",
                  fmt::format("is {}, which does not divide hidden_size {}", spec.q_heads, spec.hidden));
  spec.head_dim = config.integer_or(
      "head_dim", default_head_dim != 0 ? default_head_dim : spec.hidden / spec.q_heads, 2, 1024);
  if (spec.head_dim % 2 != 0)
    config.reject("head_dim", fmt::format("is {}, expected an even number", spec.head_dim));
  spec.max_positions = config.integer("max_position_embeddings", 1, kMaxPositions);
  spec.norm_epsilon = static_cast<float>(config.number_or("rms_norm_eps", spec.norm_epsilon, 0, 1));
  spec.tied_embeddings = config.boolean_or("tie_word_embeddings", false);
  spec.rope = read_rope(config, spec.head_dim, spec.max_positions, default_theta, default_scaling);
  spec.eos_ids = config.integers("eos_token_id", 0, spec.vocabulary - 1);
  config.require_neutral("hidden_act", "silu");
  // Fields of relatives of these architectures that would change the arithmetic.
  for (const char* key :
       {"attn_logit_softcapping", "final_logit_softcapping", "logits_soft_cap", "logit_scale",
        "query_pre_attn_scalar", "embedding_multiplier", "residual_multiplier", "attention_multiplier",
        "logits_scaling", "n_shared_experts", "num_nextn_predict_layers"})
    config.require_neutral(key, nullptr);
  config.require_neutral("mlp_bias", false);
  config.require_neutral("partial_rotary_factor", 1.0);
  config.require_neutral("pretraining_tp", 1);
  config.ignore({"quantization_config"});
  spec.scheme = formats::parse_scheme(config.object(), config.where());
}

}  // namespace sabrewing::models
