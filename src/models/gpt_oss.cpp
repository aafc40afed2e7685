#include "models/gpt_oss.h"

#include "core/error.h"
#include "models/layer_types.h"

namespace sabrewing::models {
namespace {

constexpr std::int64_t kGroup = 32;

std::string experts_module(std::int64_t layer) { return fmt::format("model.layers.{}.mlp.experts", layer); }

}  // namespace

DecoderSpec GptOss::read(ConfigReader& config) const {
  DecoderSpec spec;
  const Json yarn = {{"rope_type", "yarn"}, {"factor", 32.0},    {"beta_fast", 32.0},
                     {"beta_slow", 1.0},    {"truncate", false}, {"original_max_position_embeddings", 4096}};
  spec.norm_epsilon = 1e-5F;
  read_common(config, spec, 64, 150000.0, yarn);
  spec.attention_bias = config.boolean_or("attention_bias", true);
  spec.sinks = true;
  spec.experts = config.integer(
      config.find("num_local_experts") != nullptr ? "num_local_experts" : "num_experts", 1, 4096);
  // Some releases repeat the count under the other name.
  if (config.integer_or("num_experts", spec.experts, 1, 4096) != spec.experts)
    config.reject("num_experts", fmt::format("differs from num_local_experts {}", spec.experts));
  spec.top_k = static_cast<int>(config.integer("num_experts_per_tok", 1, spec.experts));
  if (config.integer_or("experts_per_token", spec.top_k, 1, spec.experts) != spec.top_k)
    config.reject("experts_per_token", fmt::format("differs from num_experts_per_tok {}", spec.top_k));
  spec.expert_intermediate = config.integer("intermediate_size", 1, std::int64_t{1} << 20);
  spec.router_score = kernels::RouterScore::kTopKThenSoftmax;
  spec.router_bias = true;
  spec.expert_bias = true;
  spec.activation = kernels::GluActivation::kClampedSwiGlu;
  spec.activation_limit = static_cast<float>(config.number_or("swiglu_limit", 7.0, 1e-3, 1e6));
  config.require_neutral("swiglu_alpha", 1.702);

  const std::int64_t window = config.integer_or("sliding_window", 128, 1, std::int64_t{1} << 40);
  const auto alternate = [](std::size_t layer) { return layer % 2 == 0; };
  const std::vector<bool> sliding = read_layer_types(config, spec.layers.size(), alternate);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) spec.layers[i] = {sliding[i] ? window : 0, true};
  return spec;
}

formats::WeightFormat GptOss::expert_format(const DecoderSpec& spec, const TensorSource&,
                                            std::int64_t layer) const {
  const auto format = spec.scheme->configured(experts_module(layer) + ".gate_up_proj");
  SABREWING_CHECK(format == formats::WeightFormat::mxfp4(), kUnsupported,
                  "[load] {}: the experts of gpt_oss are read as mxfp4 only, and quantization_config says {}",
                  experts_module(layer), format ? formats::to_string(*format) : "not quantized");
  const auto divides = [&](std::int64_t width, const char* field) {
    SABREWING_CHECK(width % kGroup == 0, kUnsupported,
                    "[load] {}: {} {} is no multiple of the mxfp4 group {}", experts_module(layer), field,
                    width, kGroup);
  };
  divides(spec.hidden, "hidden_size");
  divides(spec.expert_intermediate, "intermediate_size");
  return *format;
}

ExpertTensors GptOss::take_experts(const DecoderSpec& spec, TensorSource& tensors, std::int64_t layer) const {
  const std::string module = experts_module(layer);
  const std::int64_t experts = spec.experts;
  const std::int64_t width = spec.expert_intermediate;
  const std::int64_t hidden_groups = spec.hidden / kGroup;
  const std::int64_t width_groups = width / kGroup;
  const TensorView gate_up =
      tensors.take(module + ".gate_up_proj_blocks", {experts, 2 * width, hidden_groups, 16}, {DType::kU8});
  const TensorView gate_up_scales =
      tensors.take(module + ".gate_up_proj_scales", {experts, 2 * width, hidden_groups}, {DType::kU8});
  const TensorView down =
      tensors.take(module + ".down_proj_blocks", {experts, spec.hidden, width_groups, 16}, {DType::kU8});
  const TensorView down_scales =
      tensors.take(module + ".down_proj_scales", {experts, spec.hidden, width_groups}, {DType::kU8});

  ExpertTensors result;
  result.held = {gate_up, gate_up_scales, down, down_scales};
  for (std::int64_t e = 0; e < experts; ++e) {
    kernels::ExpertSource source;
    const std::int64_t row = hidden_groups * 16;
    kernels::WeightRows& gate = source.gate;
    gate.values = gate_up.bytes.data() + e * 2 * width * row;
    gate.row_stride = 2 * row;  // even rows are gate, odd rows up
    gate.scales = gate_up_scales.bytes.data() + e * 2 * width * hidden_groups;
    gate.scale_row_stride = 2 * hidden_groups;
    gate.rows = width;
    source.up = gate;
    source.up.values += row;
    source.up.scales += hidden_groups;
    source.down = {down.bytes.data() + e * spec.hidden * width_groups * 16, width_groups * 16,
                   down_scales.bytes.data() + e * spec.hidden * width_groups, width_groups, spec.hidden};
    source.done = [&tensors, held = result.held, e, experts] {
      for (const TensorView& tensor : held) {
        const std::size_t bytes = tensor.bytes.size() / static_cast<std::size_t>(experts);
        tensors.discard(tensor.bytes.subspan(static_cast<std::size_t>(e) * bytes, bytes));
      }
    };
    result.sources.push_back(source);
  }

  const std::vector<float> interleaved =
      take_floats(tensors, module + ".gate_up_proj_bias", {experts, 2 * width});
  result.bias13.resize(interleaved.size());
  for (std::int64_t e = 0; e < experts; ++e)
    for (std::int64_t i = 0; i < 2 * width; ++i)
      result.bias13[static_cast<std::size_t>(e * 2 * width + (i % 2) * width + i / 2)] =
          interleaved[static_cast<std::size_t>(e * 2 * width + i)];
  result.bias2 = take_floats(tensors, module + ".down_proj_bias", {experts, spec.hidden});
  return result;
}

}  // namespace sabrewing::models
