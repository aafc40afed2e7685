#include "kernels/cuda/backend/ops.h"

#include <algorithm>

#include "kernels/cuda/device/ops/params.h"
#include "kernels/cuda/gemm/launch_size.h"

namespace sabrewing::kernels::cuda {

namespace {

constexpr unsigned kThreads = 256;

/// Whole warps for `items` that a block strides over.
unsigned threads_for(std::int64_t items, std::int64_t most) {
  return static_cast<unsigned>(
      std::clamp<std::int64_t>(ceil_div(items, device::kWarp) * device::kWarp, device::kWarp, most));
}

}  // namespace

void check_matrix(const char* operation, const char* operand, const Matrix& matrix, DType dtype,
                  std::int64_t rows, std::int64_t cols) {
  SABREWING_CHECK(matrix.dtype == dtype, kUnsupported, "[{}] {} is {}: {} expected", operation, operand,
                  to_string(matrix.dtype), to_string(dtype));
  SABREWING_CHECK(matrix.rows == rows && matrix.cols == cols, kInvalidArgument,
                  "[{}] {} is {} by {}: {} by {} expected", operation, operand, matrix.rows, matrix.cols,
                  rows, cols);
  SABREWING_CHECK(matrix.data != nullptr || rows * cols == 0, kInvalidArgument, "[{}] {} is null", operation,
                  operand);
}

Ops::Ops(Context& context, const KernelUnit& unit) : context_(context) {
  const std::string_view act = device_type(context.activation);
  const std::string_view cache = device_type(cache_type(context.activation));
  norm_activation_ = unit.kernel(fmt::format("rms_norm<{0}, {0}>", act));
  norm_float_ = unit.kernel(fmt::format("rms_norm<float, {}>", act));
  add_ = unit.kernel(fmt::format("add<{}>", act));
  glu_ = unit.kernel(fmt::format("glu<{}>", act));
  rope_ = unit.kernel(fmt::format("rope<{}>", act));
  gather_activation_ = unit.kernel(fmt::format("gather_rows<{}>", act));
  gather_float_ = unit.kernel("gather_rows<float>");
  write_cache_ = unit.kernel(fmt::format("write_cache<{}, {}>", act, cache));
  attend_ = unit.kernel(fmt::format("attend<{}, {}>", act, cache));
  route_ = unit.kernel("route");
}

void Ops::rms_norm(Matrix x, const float* weight, std::int64_t weight_size, float epsilon, Matrix out) const {
  const DType in = x.dtype == DType::kF32 ? DType::kF32 : context_.activation;
  check_matrix("rms_norm", "x", x, in, x.rows, x.cols);
  check_matrix("rms_norm", "out", out, context_.activation, x.rows, x.cols);
  SABREWING_CHECK(weight_size > 0 && x.cols % weight_size == 0, kInvalidArgument,
                  "[rms_norm] weight of {} values does not divide rows of {}", weight_size, x.cols);
  jit::launch(in == DType::kF32 ? norm_float_ : norm_activation_,
              context_.config(x.rows, x.cols / weight_size, threads_for(weight_size, 512)), x.data,
              x.row_stride, weight, static_cast<int>(weight_size), epsilon, out.data, out.row_stride);
}

void Ops::add(Matrix residual, Matrix x) const {
  check_matrix("add", "residual", residual, DType::kF32, residual.rows, residual.cols);
  check_matrix("add", "x", x, context_.activation, residual.rows, residual.cols);
  jit::launch(add_, context_.config(x.rows, ceil_div(x.cols, kThreads), kThreads), residual.data,
              residual.row_stride, x.data, x.row_stride, static_cast<int>(x.cols));
}

void Ops::glu(const GluArgs& args) const {
  const std::int64_t width = args.c.cols;
  check_matrix("glu", "c", args.c, context_.activation, args.c.rows, width);
  check_matrix("glu", "gate_up", args.gate_up, context_.activation, args.c.rows, 2 * width);
  jit::launch(glu_, context_.config(args.c.rows, ceil_div(width, kThreads), kThreads), args.gate_up.data,
              args.gate_up.row_stride, args.c.data, args.c.row_stride, static_cast<int>(width),
              static_cast<int>(args.activation == GluActivation::kClampedSwiGlu), args.limit);
}

void Ops::rope(const RopeArgs& args, const Batch& batch) const {
  SABREWING_CHECK(args.head_dim > 0 && args.head_dim % 2 == 0 && args.q.cols % args.head_dim == 0 &&
                      args.k.cols % args.head_dim == 0,
                  kInvalidArgument,
                  "[rope] heads of {} do not divide q rows of {} and k rows of {} into pairs", args.head_dim,
                  args.q.cols, args.k.cols);
  check_matrix("rope", "q", args.q, context_.activation, batch.tokens, args.q.cols);
  check_matrix("rope", "k", args.k, context_.activation, batch.tokens, args.k.cols);
  const std::int64_t q_heads = args.q.cols / args.head_dim;
  const std::int64_t half = args.head_dim / 2;
  jit::launch(rope_,
              context_.config(batch.tokens, q_heads + args.k.cols / args.head_dim, threads_for(half, 128)),
              args.q.data, args.q.row_stride, static_cast<int>(q_heads), args.k.data, args.k.row_stride,
              batch.positions, args.inverse_frequency, static_cast<int>(half), args.attention_factor);
}

void Ops::route(const RouterArgs& args) const {
  const std::int64_t experts = args.logits.cols;
  check_matrix("route", "logits", args.logits, DType::kF32, args.logits.rows, experts);
  SABREWING_CHECK(args.top_k >= 1 && args.top_k <= experts, kInvalidArgument,
                  "[route] top_k {} is outside 1 to {} experts", args.top_k, experts);
  SABREWING_CHECK(args.top_k <= device::kRouteMaxTopK && experts <= device::kRouteMaxExperts, kUnsupported,
                  "[route] top {} of {} experts: at most {} of {}", args.top_k, experts,
                  device::kRouteMaxTopK, device::kRouteMaxExperts);
  const bool all = args.score == RouterScore::kSoftmaxThenTopK && !args.renormalize;
  jit::launch(route_,
              context_.config(ceil_div(args.logits.rows, device::kRouteWarps), 1,
                              device::kRouteWarps * device::kWarp),
              args.logits.data, args.logits.row_stride, static_cast<int>(args.logits.rows),
              static_cast<int>(experts), args.top_k, static_cast<int>(all), args.expert_ids,
              args.expert_weights);
}

void Ops::gather_rows(Matrix x, const std::int32_t* rows, Matrix out) const {
  const DType dtype = x.dtype == DType::kF32 ? DType::kF32 : context_.activation;
  check_matrix("gather_rows", "x", x, dtype, x.rows, x.cols);
  check_matrix("gather_rows", "out", out, dtype, out.rows, x.cols);
  jit::launch(dtype == DType::kF32 ? gather_float_ : gather_activation_,
              context_.config(out.rows, 1, threads_for(x.cols, 256)), x.data, x.row_stride, x.rows, rows,
              out.data, out.row_stride, static_cast<int>(x.cols));
}

void Ops::attention(const AttentionArgs& args, const Batch& batch) const {
  const KvCacheDesc& cache = args.cache.desc;
  SABREWING_CHECK(cache.dtype == cache_type(context_.activation), kUnsupported,
                  "[attention] the cache is {}: {} expected", to_string(cache.dtype),
                  to_string(cache_type(context_.activation)));
  SABREWING_CHECK(cache.kv_heads > 0 && cache.head_dim > 0 && cache.block_size > 0 && args.q_heads > 0 &&
                      args.q_heads % cache.kv_heads == 0,
                  kInvalidArgument, "[attention] {} query heads over {} kv heads of {}, blocks of {}",
                  args.q_heads, cache.kv_heads, cache.head_dim, cache.block_size);
  SABREWING_CHECK(cache.head_dim <= device::kMaxHeadDim, kUnsupported,
                  "[attention] heads of {} values: at most {}", cache.head_dim, device::kMaxHeadDim);
  const std::int64_t kv_width = cache.kv_heads * cache.head_dim;
  const DType act = context_.activation;
  check_matrix("attention", "q", args.q, act, batch.tokens, args.q_heads * cache.head_dim);
  check_matrix("attention", "o", args.o, act, batch.tokens, args.q_heads * cache.head_dim);
  check_matrix("attention", "k", args.k, act, batch.tokens, kv_width);
  check_matrix("attention", "v", args.v, act, batch.tokens, kv_width);
  if (batch.tokens == 0) return;
  SABREWING_CHECK(batch.sequences > 0, kInvalidArgument, "[attention] {} tokens of no sequence",
                  batch.tokens);

  device::AttentionParams params{};
  params.q = args.q.data;
  params.k = args.k.data;
  params.v = args.v.data;
  params.o = args.o.data;
  params.keys = args.cache.keys;
  params.values = args.cache.values;
  params.q_stride = args.q.row_stride;
  params.k_stride = args.k.row_stride;
  params.v_stride = args.v.row_stride;
  params.o_stride = args.o.row_stride;
  params.positions = batch.positions;
  params.query_start = batch.query_start;
  params.block_table = batch.block_table;
  params.sinks = args.sinks;
  params.tokens = static_cast<int>(batch.tokens);
  params.sequences = static_cast<int>(batch.sequences);
  params.max_blocks = static_cast<int>(batch.max_blocks);
  params.block_size = static_cast<int>(cache.block_size);
  params.q_heads = static_cast<int>(args.q_heads);
  params.kv_heads = static_cast<int>(cache.kv_heads);
  params.head_dim = static_cast<int>(cache.head_dim);
  params.window = static_cast<int>(args.window);
  params.scale = args.scale;
  jit::launch(write_cache_, context_.config(batch.tokens, 1, threads_for(kv_width, 256)), params);
  jit::LaunchConfig config = context_.config(batch.tokens, cache.kv_heads, device::kAttentionThreads);
  config.grid[2] = static_cast<unsigned>(ceil_div(args.q_heads / cache.kv_heads, device::kAttentionHeads));
  const std::int64_t floats =
      device::kAttentionHeads * cache.head_dim + device::kAttentionKeys * (cache.head_dim + 1);
  config.dynamic_shared_bytes = static_cast<unsigned>(floats * static_cast<std::int64_t>(sizeof(float)));
  jit::launch(attend_, config, params);
}

}  // namespace sabrewing::kernels::cuda
