#include "kernels/cpu/ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"

namespace sabrewing::kernels::cpu {
const OpsKernels& ops_kernels(CpuTier tier) {
  switch (tier) {
#if defined(__x86_64__)
    case CpuTier::kAvx512:
      return kOpsAvx512;
    case CpuTier::kAvx2:
      return kOpsAvx2;
#endif
    default:
      return kOpsScalar;
  }
}

namespace {

void check_float(const char* operation, const char* operand, const Matrix& matrix) {
  SABREWING_CHECK(matrix.dtype == DType::kF32, kUnsupported, "[{}] {} is {}: F32 expected", operation,
                  operand, to_string(matrix.dtype));
}

void check_shape(const char* operation, const char* operand, const Matrix& matrix, std::int64_t rows,
                 std::int64_t cols) {
  SABREWING_CHECK(matrix.rows == rows && matrix.cols == cols, kInvalidArgument,
                  "[{}] {} is {} by {}: {} by {} expected", operation, operand, matrix.rows, matrix.cols,
                  rows, cols);
}

}  // namespace

Ops::Ops(ThreadPool& pool, CpuTier tier)
    : pool_(pool), kernels_(ops_kernels(tier)), scratch_(static_cast<std::size_t>(pool.threads())) {}

float* Ops::scratch(int worker, std::int64_t floats) {
  std::vector<float>& own = scratch_[static_cast<std::size_t>(worker)];
  if (own.size() < static_cast<std::size_t>(floats)) own.resize(static_cast<std::size_t>(floats));
  return own.data();
}

void Ops::for_rows(std::int64_t rows, std::int64_t values_per_row,
                   const std::function<void(std::int64_t, int)>& body) {
  constexpr std::int64_t kValuesPerTask = 16384;  // a few microseconds: what waking a worker costs
  const std::int64_t rows_per_task =
      std::max<std::int64_t>(1, kValuesPerTask / std::max<std::int64_t>(1, values_per_row));
  const std::int64_t tasks = (rows + rows_per_task - 1) / rows_per_task;
  pool_.parallel_for(tasks, [&](std::int64_t task, int worker) {
    const std::int64_t end = std::min(rows, (task + 1) * rows_per_task);
    for (std::int64_t row = task * rows_per_task; row < end; ++row) body(row, worker);
  });
}

void Ops::rms_norm(Matrix x, const float* weight, std::int64_t weight_size, float epsilon, Matrix out) {
  check_float("rms_norm", "x", x);
  check_float("rms_norm", "out", out);
  check_shape("rms_norm", "out", out, x.rows, x.cols);
  SABREWING_CHECK(weight_size > 0 && x.cols % weight_size == 0, kInvalidArgument,
                  "[rms_norm] weight of {} values does not divide rows of {}", weight_size, x.cols);
  for_rows(x.rows, x.cols, [&](std::int64_t row, int) {
    for (std::int64_t begin = 0; begin < x.cols; begin += weight_size)
      kernels_.rms_norm(x.row<float>(row) + begin, weight, weight_size, epsilon, out.row<float>(row) + begin);
  });
}

void Ops::add(Matrix residual, Matrix x) {
  check_float("add", "residual", residual);
  check_float("add", "x", x);
  check_shape("add", "x", x, residual.rows, residual.cols);
  for_rows(x.rows, x.cols,
           [&](std::int64_t row, int) { kernels_.add(residual.row<float>(row), x.row<float>(row), x.cols); });
}

void Ops::glu(const GluArgs& args) {
  check_float("glu", "gate_up", args.gate_up);
  check_float("glu", "c", args.c);
  const std::int64_t width = args.c.cols;
  check_shape("glu", "gate_up", args.gate_up, args.c.rows, 2 * width);
  for_rows(args.c.rows, 2 * width, [&](std::int64_t row, int) {
    const float* gate = args.gate_up.row<float>(row);
    float* c = args.c.row<float>(row);
    if (args.activation == GluActivation::kSilu)
      kernels_.silu_glu(gate, gate + width, width, c);
    else
      kernels_.clamped_swiglu(gate, gate + width, width, args.limit, c);
  });
}

void Ops::rope(const RopeArgs& args, const Batch& batch) {
  check_float("rope", "q", args.q);
  check_float("rope", "k", args.k);
  const std::int64_t half = args.head_dim / 2;
  SABREWING_CHECK(args.head_dim > 0 && args.head_dim % 2 == 0 && args.q.cols % args.head_dim == 0 &&
                      args.k.cols % args.head_dim == 0,
                  kInvalidArgument,
                  "[rope] heads of {} do not divide q rows of {} and k rows of {} into pairs", args.head_dim,
                  args.q.cols, args.k.cols);
  check_shape("rope", "q", args.q, batch.tokens, args.q.cols);
  check_shape("rope", "k", args.k, batch.tokens, args.k.cols);
  for_rows(batch.tokens, args.q.cols + args.k.cols, [&](std::int64_t row, int worker) {
    float* cosines = scratch(worker, args.head_dim);
    float* sines = cosines + half;
    const float position = static_cast<float>(batch.positions[row]);
    for (std::int64_t i = 0; i < half; ++i) {
      const float angle = position * args.inverse_frequency[i];
      cosines[i] = std::cos(angle) * args.attention_factor;
      sines[i] = std::sin(angle) * args.attention_factor;
    }
    for (const Matrix* heads : {&args.q, &args.k})
      for (std::int64_t begin = 0; begin < heads->cols; begin += args.head_dim)
        kernels_.rotate(heads->row<float>(row) + begin, cosines, sines, half);
  });
}

void Ops::route(const RouterArgs& args) {
  check_float("route", "logits", args.logits);
  const std::int64_t experts = args.logits.cols;
  SABREWING_CHECK(args.top_k >= 1 && args.top_k <= experts, kInvalidArgument,
                  "[route] top_k {} is outside 1 to {} experts", args.top_k, experts);
  for_rows(args.logits.rows, experts * args.top_k, [&](std::int64_t row, int worker) {
    const float* logits = args.logits.row<float>(row);
    std::int32_t* ids = args.expert_ids + row * args.top_k;
    float* weights = args.expert_weights + row * args.top_k;
    float* rest = scratch(worker, 2 * experts);
    // Logits in place of probabilities: the softmax keeps their order. A chosen entry is replaced by NaN, and
    // so is one that is NaN already: they are taken last, lowest index first.
    std::copy_n(logits, experts, rest);
    std::int64_t next_unordered = 0;
    for (int k = 0; k < args.top_k; ++k) {
      std::int64_t best = -1;
      for (std::int64_t e = 0; e < experts; ++e)
        if (best < 0 ? !std::isnan(rest[e]) : rest[e] > rest[best]) best = e;
      if (best < 0) {
        while (!std::isnan(logits[next_unordered])) ++next_unordered;
        best = next_unordered++;
      }
      ids[k] = static_cast<std::int32_t>(best);
      weights[k] = logits[best];
      rest[best] = std::numeric_limits<float>::quiet_NaN();
    }
    const float maximum = weights[0];
    const bool over_all = args.score == RouterScore::kSoftmaxThenTopK && !args.renormalize;
    float sum = 0;
    if (over_all) sum = kernels_.exponentials(logits, experts, maximum, rest);
    const float chosen_sum = kernels_.exponentials(weights, args.top_k, maximum, weights);
    if (!over_all) sum = chosen_sum;
    for (int k = 0; k < args.top_k; ++k) weights[k] /= sum;
  });
}

void Ops::gather_rows(Matrix x, const std::int32_t* rows, Matrix out) {
  SABREWING_CHECK(x.dtype == out.dtype && x.cols == out.cols, kInvalidArgument,
                  "[gather_rows] rows of {} {} cannot become rows of {} {}", x.cols, to_string(x.dtype),
                  out.cols, to_string(out.dtype));
  const std::size_t bytes = static_cast<std::size_t>(x.cols) * size_of(x.dtype);
  for (std::int64_t i = 0; i < out.rows; ++i) {
    SABREWING_CHECK(rows[i] >= 0 && rows[i] < x.rows, kInvalidArgument,
                    "[gather_rows] row {} is outside 0 to {}", rows[i], x.rows - 1);
    std::memcpy(out.row_range(i, 1).data, x.row_range(rows[i], 1).data, bytes);
  }
}

}  // namespace sabrewing::kernels::cpu
