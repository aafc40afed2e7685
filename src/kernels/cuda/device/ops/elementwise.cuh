#pragma once
// Norm, residual, gated activation, rotary embedding, gather.

#include "ops/values.cuh"

namespace sabrewing::device {

// Block (row, group): a thread reads what it writes, so `out` may be `x`.
template <typename In, typename Out>
__global__ void rms_norm(const In* x, i64 x_stride, const float* weight, int size, float epsilon, Out* out,
                         i64 out_stride) {
  const In* from = x + blockIdx.x * x_stride + static_cast<i64>(blockIdx.y) * size;
  Out* to = out + blockIdx.x * out_stride + static_cast<i64>(blockIdx.y) * size;
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x)) {
    const float value = to_float(from[i]);
    squares += value * value;
  }
  const float factor = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(size) + epsilon);
  for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x))
    to[i] = from_float<Out>(to_float(from[i]) * factor * weight[i]);
}

// Block (row, columns).
template <typename In>
__global__ void add(float* residual, i64 residual_stride, const In* x, i64 x_stride, int cols) {
  const int i = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  if (i < cols) residual[blockIdx.x * residual_stride + i] += to_float(x[blockIdx.x * x_stride + i]);
}

// Block (row, columns).
template <typename T>
__global__ void glu(const T* gate_up, i64 gate_up_stride, T* c, i64 c_stride, int width, int clamped,
                    float limit) {
  const int i = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  if (i >= width) return;
  const T* row = gate_up + blockIdx.x * gate_up_stride;
  c[blockIdx.x * c_stride + i] =
      from_float<T>(gated(to_float(row[i]), to_float(row[width + i]), clamped, limit));
}

// Block (token, head); the heads of q come first.
template <typename T>
__global__ void rope(T* q, i64 q_stride, int q_heads, T* k, i64 k_stride, const int* positions,
                     const float* inverse_frequency, int half, float factor) {
  const int head = static_cast<int>(blockIdx.y);
  T* row = head < q_heads ? q + blockIdx.x * q_stride + static_cast<i64>(head) * 2 * half
                          : k + blockIdx.x * k_stride + static_cast<i64>(head - q_heads) * 2 * half;
  const float position = static_cast<float>(positions[blockIdx.x]);
  for (int i = static_cast<int>(threadIdx.x); i < half; i += static_cast<int>(blockDim.x)) {
    float sine, cosine;
    sincosf(position * inverse_frequency[i], &sine, &cosine);
    sine *= factor;
    cosine *= factor;
    const float a = to_float(row[i]);
    const float b = to_float(row[half + i]);
    row[i] = from_float<T>(a * cosine - b * sine);
    row[half + i] = from_float<T>(b * cosine + a * sine);
  }
}

// Block (row of out).
template <typename T>
__global__ void gather_rows(const T* x, i64 x_stride, i64 x_rows, const int* rows, T* out, i64 out_stride,
                            int cols) {
  const int row = rows[blockIdx.x];
  require(row >= 0 && row < x_rows);
  for (int i = static_cast<int>(threadIdx.x); i < cols; i += static_cast<int>(blockDim.x))
    out[blockIdx.x * out_stride + i] = x[row * x_stride + i];
}

}  // namespace sabrewing::device
