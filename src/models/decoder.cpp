#include "models/decoder.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "core/error.h"
#include "models/linear.h"

namespace sabrewing::models {

using kernels::Accuracy;
using kernels::Batch;
using kernels::DeviceBuffer;
using kernels::GemmDesc;
using kernels::Matrix;

/// A planned and, after loading, packed linear layer.
struct Decoder::Linear {
  std::string what;
  kernels::GemmPlanPtr plan;
  kernels::PackedWeight weight;
  DeviceBuffer bias;

  std::int64_t n() const { return plan->desc().n; }
  std::int64_t k() const { return plan->desc().k; }
};

struct Decoder::Layer {
  LayerSpec spec;
  std::string prefix;
  DeviceBuffer input_norm;
  DeviceBuffer post_norm;
  DeviceBuffer q_norm;
  DeviceBuffer k_norm;
  DeviceBuffer sinks;
  Linear qkv;
  Linear output;
  Linear gate_up;  ///< dense layers
  Linear down;
  Linear router;  ///< sparse layers
  kernels::ExpertsPlanPtr experts_plan;
  kernels::PackedExperts experts;
};

/// The step's buffers inside one arena.
struct Decoder::Scratch {
  Matrix hidden;                       ///< (T, H) residual, FP32
  Matrix normed;                       ///< (T, H)
  Matrix qkv;                          ///< (T, q + 2 kv)
  Matrix attended;                     ///< (T, q)
  Matrix branch;                       ///< (T, H)
  Matrix gate_up;                      ///< (T, 2I), dense layers
  Matrix activated;                    ///< (T, I), dense layers
  Matrix router;                       ///< (T, E), FP32
  std::int32_t* expert_ids = nullptr;  ///< (T, top_k)
  float* expert_weights = nullptr;     ///< (T, top_k)
  Matrix last_hidden;                  ///< (R, H), FP32
  Matrix last_normed;                  ///< (R, H)
  Matrix logits;                       ///< (R, V), FP32
  void* workspace = nullptr;
  std::size_t bytes = 0;
};

namespace {

constexpr std::size_t kAlignment = 256;

/// Hands out consecutive aligned pieces of an arena; with a null base it only counts.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}

  void* take(std::size_t bytes) {
    void* at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return at;
  }
  Matrix matrix(DType dtype, std::int64_t rows, std::int64_t cols) {
    return {take(static_cast<std::size_t>(rows * cols) * size_of(dtype)), dtype, rows, cols, cols};
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace

Decoder::Decoder(DecoderSpec spec, kernels::Backend& backend, Accuracy accuracy)
    : spec_(std::move(spec)),
      backend_(backend),
      accuracy_(accuracy),
      architecture_(find_architecture(spec_.model_type, "model")) {}

Decoder::~Decoder() = default;

Decoder::Linear Decoder::make_linear(const std::string& what, formats::WeightFormat format, std::int64_t n,
                                     std::int64_t k, bool bias, DType output) const {
  GemmDesc desc;
  desc.weight = format;
  desc.activation = backend_.preferred_activation(format, accuracy_);
  desc.output = output;
  desc.n = n;
  desc.k = k;
  desc.bias = bias;
  desc.accuracy = accuracy_;
  const Feasibility feasible = backend_.can_implement(desc);
  SABREWING_CHECK(feasible.ok, kUnsupported, "[plan] {}: {}", what, feasible.reason);
  Linear linear;
  linear.what = what;
  linear.plan = backend_.plan(desc);
  return linear;
}

formats::WeightFormat Decoder::module_format(const TensorSource& tensors,
                                             const std::vector<std::string>& modules) const {
  const formats::WeightFormat format = linear_format(*spec_.scheme, tensors, modules.front());
  for (const std::string& module : modules) {
    const formats::WeightFormat other = linear_format(*spec_.scheme, tensors, module);
    SABREWING_CHECK(other == format, kUnsupported,
                    "[plan] {} is {} but {} is {}: fused modules share one format", modules.front(),
                    formats::to_string(format), module, formats::to_string(other));
  }
  return format;
}

void Decoder::plan_layers(const TensorSource& tensors) {
  if (planned_) return;
  const DType act = backend_.activation_dtype();
  embedding_ = std::make_unique<Linear>(make_linear("model.embed_tokens",
                                                    module_format(tensors, {"model.embed_tokens"}),
                                                    spec_.vocabulary, spec_.hidden, false, DType::kF32));
  if (!spec_.tied_embeddings)
    head_ = std::make_unique<Linear>(make_linear("lm_head", module_format(tensors, {"lm_head"}),
                                                 spec_.vocabulary, spec_.hidden, false, DType::kF32));
  for (std::size_t i = 0; i < spec_.layers.size(); ++i) {
    auto layer = std::make_unique<Layer>();
    layer->spec = spec_.layers[i];
    layer->prefix = fmt::format("model.layers.{}.", i);
    const std::string& p = layer->prefix;
    layer->qkv = make_linear(
        p + "self_attn.qkv",
        module_format(tensors, {p + "self_attn.q_proj", p + "self_attn.k_proj", p + "self_attn.v_proj"}),
        spec_.q_width() + 2 * spec_.kv_width(), spec_.hidden, spec_.attention_bias, act);
    layer->output = make_linear(p + "self_attn.o_proj", module_format(tensors, {p + "self_attn.o_proj"}),
                                spec_.hidden, spec_.q_width(), spec_.attention_bias, act);
    if (!layer->spec.sparse) {
      layer->gate_up =
          make_linear(p + "mlp.gate_up", module_format(tensors, {p + "mlp.gate_proj", p + "mlp.up_proj"}),
                      2 * spec_.intermediate, spec_.hidden, false, act);
      layer->down = make_linear(p + "mlp.down_proj", module_format(tensors, {p + "mlp.down_proj"}),
                                spec_.hidden, spec_.intermediate, false, act);
    } else {
      const std::string router = p + std::string(architecture_.router_module());
      layer->router = make_linear(router, module_format(tensors, {router}), spec_.experts, spec_.hidden,
                                  spec_.router_bias, DType::kF32);
      kernels::ExpertsDesc desc;
      desc.weight = architecture_.expert_format(spec_, tensors, static_cast<std::int64_t>(i));
      desc.experts = spec_.experts;
      desc.hidden = spec_.hidden;
      desc.intermediate = spec_.expert_intermediate;
      desc.top_k = spec_.top_k;
      desc.activation = spec_.activation;
      desc.limit = spec_.activation_limit;
      desc.bias = spec_.expert_bias;
      desc.accuracy = accuracy_;
      const Feasibility feasible = backend_.can_implement(desc);
      SABREWING_CHECK(feasible.ok, kUnsupported, "[plan] {}mlp.experts: {}", p, feasible.reason);
      layer->experts_plan = backend_.plan(desc);
    }
    layers_.push_back(std::move(layer));
  }
  planned_ = true;
}

std::vector<ModuleReport> Decoder::plan_modules(TensorSource& tensors) {
  plan_layers(tensors);
  std::vector<ModuleReport> reports;
  std::int64_t floats = spec_.hidden + spec_.head_dim / 2;  // norms, biases and the like
  const auto add = [&](const std::string& group, const formats::WeightFormat& format,
                       const std::string& kernel, std::int64_t count, std::int64_t elements) {
    const std::string format_name = formats::to_string(format);
    // Scales add their own bits per element; ElementType widths and group sizes are exact here.
    double bits = format.element.bits;
    if (format.scale && format.block.n == 1 && format.block.k > 0)
      bits += static_cast<double>(format.scale->bits) / static_cast<double>(format.block.k);
    const auto bytes = static_cast<std::size_t>(std::llround(static_cast<double>(elements) * bits / 8));
    for (ModuleReport& report : reports) {
      if (report.group != group || report.format != format_name || report.kernel != kernel) continue;
      report.count += count;
      report.bytes += bytes;
      return;
    }
    reports.push_back({group, format_name, kernel, count, bytes});
  };
  const auto add_linear = [&](const std::string& group, const Linear& linear) {
    add(group, linear.plan->desc().weight, linear.plan->kernel_name(), 1, linear.n() * linear.k());
    if (linear.plan->desc().bias) floats += linear.n();
  };
  add_linear(spec_.tied_embeddings ? "embedding and lm_head" : "embedding", *embedding_);
  for (const auto& layer : layers_) {
    floats += 2 * spec_.hidden + (spec_.qk_norm ? 2 * spec_.head_dim : 0) + (spec_.sinks ? spec_.q_heads : 0);
    add_linear("attention qkv", layer->qkv);
    add_linear("attention output", layer->output);
    if (!layer->spec.sparse) {
      add_linear("mlp gate and up", layer->gate_up);
      add_linear("mlp down", layer->down);
    } else {
      add_linear("router", layer->router);
      const kernels::ExpertsDesc& desc = layer->experts_plan->desc();
      add("experts", desc.weight, layer->experts_plan->kernel_name(), 3 * desc.experts,
          3 * desc.experts * desc.hidden * desc.intermediate);
      if (desc.bias) floats += desc.experts * (2 * desc.intermediate + desc.hidden);
    }
  }
  if (head_) add_linear("lm_head", *head_);
  planned_weight_bytes_ = static_cast<std::size_t>(floats) * sizeof(float);
  for (const ModuleReport& report : reports) planned_weight_bytes_ += report.bytes;
  return reports;
}

DeviceBuffer Decoder::upload(const std::vector<float>& values) {
  DeviceBuffer buffer = backend_.allocate(values.size() * sizeof(float));
  backend_.copy_in(buffer.data, values.data(), values.size() * sizeof(float));
  weight_bytes_ += buffer.bytes;
  return buffer;
}

void Decoder::load_linear(Linear& linear, TensorSource& tensors, const std::vector<std::string>& modules,
                          const std::vector<std::int64_t>& rows) {
  kernels::WeightSource source;
  source.format = linear.plan->desc().weight;
  source.k = linear.k();
  source.done = [&tensors](std::span<const std::byte> part) { tensors.discard(part); };
  std::vector<TensorView> held;
  std::vector<float> bias;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    const LinearTensors part = take_linear(*spec_.scheme, tensors, modules[i], rows[i], source.k);
    source.parts.push_back(part.rows);
    held.insert(held.end(), part.held.begin(), part.held.end());
    if (linear.plan->desc().bias) {
      const std::vector<float> values = take_floats(tensors, modules[i] + ".bias", {rows[i]});
      bias.insert(bias.end(), values.begin(), values.end());
    }
  }
  linear.weight = backend_.pack(*linear.plan, source);
  weight_bytes_ += linear.weight.bytes.bytes;
  for (const TensorView& tensor : held) tensors.release(tensor);
  if (!bias.empty()) linear.bias = upload(bias);
}

void Decoder::load_experts(Layer& layer, TensorSource& tensors, std::int64_t index) {
  const ExpertTensors experts = architecture_.take_experts(spec_, tensors, index);
  layer.experts = backend_.pack(*layer.experts_plan, experts.sources, experts.bias13, experts.bias2);
  for (const TensorView& tensor : experts.held) tensors.release(tensor);
  weight_bytes_ += layer.experts.w13.bytes.bytes + layer.experts.w2.bytes.bytes + layer.experts.bias13.bytes +
                   layer.experts.bias2.bytes;
}

void Decoder::load(TensorSource& tensors, const LoadProgress& progress) {
  plan_layers(tensors);
  const auto norm = [&](const std::string& name, std::int64_t width) {
    return upload(take_floats(tensors, name, {width}));
  };
  const auto report = [&] {
    if (progress) progress(weight_bytes_);
  };
  load_linear(*embedding_, tensors, {"model.embed_tokens"}, {spec_.vocabulary});
  report();
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = *layers_[i];
    const std::string& p = layer.prefix;
    layer.input_norm = norm(p + "input_layernorm.weight", spec_.hidden);
    layer.post_norm = norm(p + "post_attention_layernorm.weight", spec_.hidden);
    if (spec_.qk_norm) {
      layer.q_norm = norm(p + "self_attn.q_norm.weight", spec_.head_dim);
      layer.k_norm = norm(p + "self_attn.k_norm.weight", spec_.head_dim);
    }
    if (spec_.sinks) layer.sinks = norm(p + "self_attn.sinks", spec_.q_heads);
    load_linear(layer.qkv, tensors, {p + "self_attn.q_proj", p + "self_attn.k_proj", p + "self_attn.v_proj"},
                {spec_.q_width(), spec_.kv_width(), spec_.kv_width()});
    load_linear(layer.output, tensors, {p + "self_attn.o_proj"}, {spec_.hidden});
    if (layer.spec.sparse) {
      load_linear(layer.router, tensors, {p + std::string(architecture_.router_module())}, {spec_.experts});
      load_experts(layer, tensors, static_cast<std::int64_t>(i));
    } else {
      load_linear(layer.gate_up, tensors, {p + "mlp.gate_proj", p + "mlp.up_proj"},
                  {spec_.intermediate, spec_.intermediate});
      load_linear(layer.down, tensors, {p + "mlp.down_proj"}, {spec_.hidden});
    }
    report();
  }
  final_norm_ = norm("model.norm.weight", spec_.hidden);
  if (head_) load_linear(*head_, tensors, {"lm_head"}, {spec_.vocabulary});
  inverse_frequency_ = upload(spec_.rope.inverse_frequency);
  report();

  std::vector<std::string> ignored;
  // Published checkpoints with tied embeddings may store the shared matrix twice.
  if (spec_.tied_embeddings) ignored.emplace_back("lm_head.weight");
  for (const auto& layer : layers_) ignored.push_back(layer->prefix + "self_attn.rotary_emb.inv_freq");
  tensors.finish(ignored);
  backend_.synchronize();
}

kernels::KvCacheDesc Decoder::cache_desc(std::int64_t block_size) const {
  return {block_size, spec_.kv_heads, spec_.head_dim, backend_.cache_dtype(accuracy_)};
}

Decoder::Scratch Decoder::layout_scratch(const Limits& limits, std::byte* base) const {
  const DType act = backend_.activation_dtype();
  const std::int64_t t = limits.max_tokens;
  const std::int64_t r = limits.max_logit_rows;
  Carver carver(base);
  Scratch s;
  s.hidden = carver.matrix(DType::kF32, t, spec_.hidden);
  s.normed = carver.matrix(act, t, spec_.hidden);
  s.qkv = carver.matrix(act, t, spec_.q_width() + 2 * spec_.kv_width());
  s.attended = carver.matrix(act, t, spec_.q_width());
  s.branch = carver.matrix(act, t, spec_.hidden);
  s.gate_up = carver.matrix(act, t, 2 * spec_.intermediate);
  s.activated = carver.matrix(act, t, spec_.intermediate);
  s.router = carver.matrix(DType::kF32, t, spec_.experts);
  s.expert_ids = static_cast<std::int32_t*>(
      carver.take(static_cast<std::size_t>(t * spec_.top_k) * sizeof(std::int32_t)));
  s.expert_weights =
      static_cast<float*>(carver.take(static_cast<std::size_t>(t * spec_.top_k) * sizeof(float)));
  s.last_hidden = carver.matrix(DType::kF32, r, spec_.hidden);
  s.last_normed = carver.matrix(act, r, spec_.hidden);
  s.logits = carver.matrix(DType::kF32, r, spec_.vocabulary);

  std::size_t workspace = 0;
  const auto need = [&](const Linear& linear, std::int64_t rows) {
    if (linear.plan) workspace = std::max(workspace, linear.plan->workspace_bytes(rows));
  };
  need(head_ ? *head_ : *embedding_, r);
  Batch batch;
  batch.tokens = t;
  batch.sequences = limits.max_sequences;
  batch.max_context = limits.max_context;
  kernels::AttentionArgs attention;
  // Shapes alone matter here.
  attention.q = {nullptr, act, t, spec_.q_width(), s.qkv.cols};
  attention.k = {nullptr, act, t, spec_.kv_width(), s.qkv.cols};
  attention.v = attention.k;
  attention.o = {nullptr, act, t, spec_.q_width(), spec_.q_width()};
  attention.q_heads = spec_.q_heads;
  attention.cache.desc = cache_desc(16);
  workspace = std::max(workspace, backend_.attention_workspace_bytes(attention, batch));
  for (const auto& layer : layers_) {
    need(layer->qkv, t);
    need(layer->output, t);
    need(layer->gate_up, t);
    need(layer->down, t);
    need(layer->router, t);
    if (layer->experts_plan) workspace = std::max(workspace, layer->experts_plan->workspace_bytes(t));
  }
  s.workspace = carver.take(workspace);
  s.bytes = carver.used();
  return s;
}

std::size_t Decoder::workspace_bytes(const Limits& limits) const {
  return layout_scratch(limits, nullptr).bytes;
}

void Decoder::reserve(const Limits& limits) {
  limits_ = limits;
  arena_ = backend_.allocate(workspace_bytes(limits));
  scratch_ = std::make_unique<Scratch>(layout_scratch(limits, static_cast<std::byte*>(arena_.data)));
}

void Decoder::run_linear(const Linear& linear, Matrix a, Matrix c, const Scratch& scratch) {
  kernels::GemmArgs args;
  args.a = a;
  args.b = &linear.weight;
  args.bias = static_cast<const float*>(linear.bias.data);
  args.c = c;
  args.workspace = scratch.workspace;
  backend_.gemm(*linear.plan, args);
}

void Decoder::finish_layer(const Layer& layer, Matrix attended, Matrix hidden, const Scratch& s) {
  const auto rows = [&hidden](Matrix m) { return m.row_range(0, hidden.rows); };
  const Matrix normed = rows(s.normed);
  const Matrix branch = rows(s.branch);
  run_linear(layer.output, attended, branch, s);
  backend_.add(hidden, branch);

  backend_.rms_norm(hidden, static_cast<const float*>(layer.post_norm.data), spec_.hidden, spec_.norm_epsilon,
                    normed);
  if (layer.spec.sparse) {
    run_linear(layer.router, normed, rows(s.router), s);
    backend_.route(
        {rows(s.router), spec_.top_k, spec_.router_score, spec_.renormalize, s.expert_ids, s.expert_weights});
    backend_.experts(*layer.experts_plan,
                     {normed, s.expert_ids, s.expert_weights, &layer.experts, branch, s.workspace});
  } else {
    run_linear(layer.gate_up, normed, rows(s.gate_up), s);
    backend_.glu({rows(s.gate_up), rows(s.activated), spec_.activation, spec_.activation_limit});
    run_linear(layer.down, rows(s.activated), branch, s);
  }
  backend_.add(hidden, branch);
}

Matrix Decoder::forward(const Batch& batch, const std::vector<KvLayer>& cache, const std::int32_t* logit_rows,
                        std::int64_t logit_count) {
  SABREWING_CHECK(scratch_ != nullptr && batch.tokens <= limits_.max_tokens &&
                      logit_count <= limits_.max_logit_rows && batch.sequences <= limits_.max_sequences &&
                      batch.max_context <= limits_.max_context,
                  kInternal,
                  "[model] a step of {} tokens, {} sequences, context {}, {} logit rows exceeds the reserved "
                  "{}, {}, {}, {}",
                  batch.tokens, batch.sequences, batch.max_context, logit_count, limits_.max_tokens,
                  limits_.max_sequences, limits_.max_context, limits_.max_logit_rows);
  const Scratch& s = *scratch_;
  const std::int64_t t = batch.tokens;
  const auto rows = [t](Matrix m) { return m.row_range(0, t); };
  const auto floats = [](const DeviceBuffer& buffer) { return static_cast<const float*>(buffer.data); };
  const Matrix hidden = rows(s.hidden);
  const Matrix normed = rows(s.normed);
  const Matrix q = rows(s.qkv).columns(0, spec_.q_width());
  const Matrix k = rows(s.qkv).columns(spec_.q_width(), spec_.kv_width());
  const Matrix v = rows(s.qkv).columns(spec_.q_width() + spec_.kv_width(), spec_.kv_width());

  backend_.embed(*embedding_->plan, embedding_->weight, batch.token_ids, hidden);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = *layers_[i];
    backend_.rms_norm(hidden, floats(layer.input_norm), spec_.hidden, spec_.norm_epsilon, normed);
    run_linear(layer.qkv, normed, rows(s.qkv), s);
    if (spec_.qk_norm) {
      backend_.rms_norm(q, floats(layer.q_norm), spec_.head_dim, spec_.norm_epsilon, q);
      backend_.rms_norm(k, floats(layer.k_norm), spec_.head_dim, spec_.norm_epsilon, k);
    }
    backend_.rope({q, k, spec_.head_dim, floats(inverse_frequency_), spec_.rope.attention_factor}, batch);
    kernels::AttentionArgs attention;
    attention.q = q;
    attention.k = k;
    attention.v = v;
    attention.o = rows(s.attended);
    attention.cache = cache[i].view;
    attention.q_heads = spec_.q_heads;
    attention.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec_.head_dim)));
    attention.window = layer.spec.window;
    attention.sinks = floats(layer.sinks);
    attention.workspace = s.workspace;
    backend_.attention(attention, batch);
    if (i + 1 == layers_.size() && logit_count < t) break;
    finish_layer(layer, rows(s.attended), hidden, s);
  }
  const Matrix last_hidden = s.last_hidden.row_range(0, logit_count);
  const Matrix last_normed = s.last_normed.row_range(0, logit_count);
  const Matrix logits = s.logits.row_range(0, logit_count);
  if (logit_count == 0) return logits;
  backend_.gather_rows(hidden, logit_rows, last_hidden);
  if (logit_count < t) {
    // The last layer's cache is written: of the other rows nothing more is read. Nor is q.
    const Matrix attended = {s.qkv.data, s.qkv.dtype, logit_count, spec_.q_width(), spec_.q_width()};
    backend_.gather_rows(rows(s.attended), logit_rows, attended);
    finish_layer(*layers_.back(), attended, last_hidden, s);
  }
  backend_.rms_norm(last_hidden, floats(final_norm_), spec_.hidden, spec_.norm_epsilon, last_normed);
  run_linear(head_ ? *head_ : *embedding_, last_normed, logits, s);
  return logits;
}

}  // namespace sabrewing::models
