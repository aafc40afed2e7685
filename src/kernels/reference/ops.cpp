#include "kernels/reference/ops.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sabrewing::kernels::reference {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

std::vector<double> rms_norm(std::span<const float> x, std::span<const float> weight, double epsilon) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double factor = 1 / std::sqrt(squares / static_cast<double>(x.size()) + epsilon);
  std::vector<double> out;
  for (std::size_t i = 0; i < x.size(); ++i) out.push_back(x[i] * factor * weight[i]);
  return out;
}

std::vector<double> glu(std::span<const float> gate_up, GluActivation activation, double limit) {
  const std::size_t width = gate_up.size() / 2;
  std::vector<double> out;
  for (std::size_t i = 0; i < width; ++i) {
    const double gate = gate_up[i];
    const double up = gate_up[width + i];
    if (activation == GluActivation::kSilu) {
      out.push_back(gate * sigmoid(gate) * up);
    } else {
      const double clamped = std::min(gate, limit);
      out.push_back(clamped * sigmoid(1.702 * clamped) * (std::clamp(up, -limit, limit) + 1));
    }
  }
  return out;
}

std::vector<double> rope(std::span<const float> head, std::int32_t position,
                         std::span<const float> inverse_frequency, double attention_factor) {
  const std::size_t half = head.size() / 2;
  std::vector<double> out(head.size());
  for (std::size_t i = 0; i < half; ++i) {
    const double angle = static_cast<float>(position) * inverse_frequency[i];
    const double cosine = std::cos(angle) * attention_factor;
    const double sine = std::sin(angle) * attention_factor;
    out[i] = head[i] * cosine - head[half + i] * sine;
    out[half + i] = head[half + i] * cosine + head[i] * sine;
  }
  return out;
}

Route route(std::span<const float> logits, int top_k, RouterScore score, bool renormalize) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    const float first = logits[static_cast<std::size_t>(a)];
    const float second = logits[static_cast<std::size_t>(b)];
    return first != second ? first > second : a < b;
  });
  const auto exponential = [&](std::int32_t expert) {
    return std::exp(static_cast<double>(logits[static_cast<std::size_t>(expert)]) -
                    static_cast<double>(logits[static_cast<std::size_t>(order[0])]));
  };
  Route out;
  out.ids.assign(order.begin(), order.begin() + top_k);
  double over_all = 0;
  for (const std::int32_t expert : order) over_all += exponential(expert);
  double over_chosen = 0;
  for (const std::int32_t expert : out.ids) over_chosen += exponential(expert);
  const bool all = score == RouterScore::kSoftmaxThenTopK && !renormalize;
  for (const std::int32_t expert : out.ids)
    out.weights.push_back(exponential(expert) / (all ? over_all : over_chosen));
  return out;
}

std::vector<double> attention(const AttentionShape& shape, std::span<const float> q, std::int64_t position,
                              std::span<const float> k, std::span<const float> v) {
  const std::int64_t dim = shape.head_dim;
  const std::int64_t width = shape.kv_heads * dim;
  const std::int64_t first = shape.window > 0 ? std::max<std::int64_t>(0, position - shape.window + 1) : 0;
  std::vector<double> out(static_cast<std::size_t>(shape.q_heads * dim));
  for (std::int64_t h = 0; h < shape.q_heads; ++h) {
    const std::int64_t offset = h / (shape.q_heads / shape.kv_heads) * dim;
    std::vector<double> scores;
    for (std::int64_t j = first; j <= position; ++j) {
      double dot = 0;
      for (std::int64_t d = 0; d < dim; ++d)
        dot += static_cast<double>(q[static_cast<std::size_t>(h * dim + d)]) *
               k[static_cast<std::size_t>(j * width + offset + d)];
      scores.push_back(dot * shape.scale);
    }
    double maximum = *std::max_element(scores.begin(), scores.end());
    if (!shape.sinks.empty()) maximum = std::max<double>(maximum, shape.sinks[static_cast<std::size_t>(h)]);
    double sum = shape.sinks.empty() ? 0 : std::exp(shape.sinks[static_cast<std::size_t>(h)] - maximum);
    for (const double score : scores) sum += std::exp(score - maximum);
    for (std::int64_t j = first; j <= position; ++j) {
      const double weight = std::exp(scores[static_cast<std::size_t>(j - first)] - maximum) / sum;
      for (std::int64_t d = 0; d < dim; ++d)
        out[static_cast<std::size_t>(h * dim + d)] +=
            weight * v[static_cast<std::size_t>(j * width + offset + d)];
    }
  }
  return out;
}

}  // namespace sabrewing::kernels::reference
