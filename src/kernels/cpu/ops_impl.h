#pragma once

// The loops of ops_kernels.h on the vectors of ops_vector.h. Included once per tier.

#include "kernels/cpu/ops_kernels.h"
#include "kernels/cpu/ops_vector.h"

namespace sabrewing::kernels::cpu {
namespace {

/// Calls whole(offset) for each full vector and part(offset, count) once for the rest.
template <typename Whole, typename Part>
inline void for_vectors(std::int64_t n, Whole whole, Part part) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) whole(i);
  if (i < n) part(i, n - i);
}

void rms_norm(const float* x, const float* weight, std::int64_t n, float epsilon, float* out) {
  constexpr int kAccumulators = 4;
  Floats sums[kAccumulators] = {};
  std::int64_t i = 0;
  for (; i + kAccumulators * kLanes <= n; i += kAccumulators * kLanes) {
#pragma GCC unroll 4
    for (int a = 0; a < kAccumulators; ++a) {
      const Floats v = load(x + i + a * kLanes);
      sums[a] = multiply_add(v, v, sums[a]);
    }
  }
  for (; i < n; i += kLanes) {
    const Floats v = n - i >= kLanes ? load(x + i) : load_part(x + i, n - i);
    sums[0] = multiply_add(v, v, sums[0]);
  }
  const float sum = lane_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  const float factor = 1.0f / __builtin_sqrtf(sum / static_cast<float>(n) + epsilon);
  for_vectors(
      n, [&](std::int64_t at) { store(out + at, load(x + at) * factor * load(weight + at)); },
      [&](std::int64_t at, std::int64_t count) {
        store_part(out + at, load_part(x + at, count) * factor * load_part(weight + at, count), count);
      });
}

void add(float* residual, const float* x, std::int64_t n) {
  for_vectors(
      n, [&](std::int64_t at) { store(residual + at, load(residual + at) + load(x + at)); },
      [&](std::int64_t at, std::int64_t count) {
        store_part(residual + at, load_part(residual + at, count) + load_part(x + at, count), count);
      });
}

inline Floats silu_glu_lanes(Floats gate, Floats up) { return gate / (1.0f + exp_lanes(-gate)) * up; }

void silu_glu(const float* gate, const float* up, std::int64_t n, float* out) {
  for_vectors(
      n, [&](std::int64_t at) { store(out + at, silu_glu_lanes(load(gate + at), load(up + at))); },
      [&](std::int64_t at, std::int64_t count) {
        store_part(out + at, silu_glu_lanes(load_part(gate + at, count), load_part(up + at, count)), count);
      });
}

inline Floats clamped_swiglu_lanes(Floats gate, Floats up, float limit) {
  const Floats g = gate > limit ? splat(limit) : gate;
  Floats u = up > limit ? splat(limit) : up;
  u = u < -limit ? splat(-limit) : u;
  return g / (1.0f + exp_lanes(g * -1.702f)) * (u + 1.0f);
}

void clamped_swiglu(const float* gate, const float* up, std::int64_t n, float limit, float* out) {
  for_vectors(
      n,
      [&](std::int64_t at) { store(out + at, clamped_swiglu_lanes(load(gate + at), load(up + at), limit)); },
      [&](std::int64_t at, std::int64_t count) {
        store_part(out + at,
                   clamped_swiglu_lanes(load_part(gate + at, count), load_part(up + at, count), limit),
                   count);
      });
}

void rotate(float* x, const float* cos, const float* sin, std::int64_t half) {
  float* y = x + half;
  for_vectors(
      half,
      [&](std::int64_t at) {
        const Floats a = load(x + at), b = load(y + at), c = load(cos + at), s = load(sin + at);
        store(x + at, a * c - b * s);
        store(y + at, b * c + a * s);
      },
      [&](std::int64_t at, std::int64_t count) {
        const Floats a = load_part(x + at, count), b = load_part(y + at, count);
        const Floats c = load_part(cos + at, count), s = load_part(sin + at, count);
        store_part(x + at, a * c - b * s, count);
        store_part(y + at, b * c + a * s, count);
      });
}

float exponentials(const float* x, std::int64_t n, float maximum_value, float* out) {
  Floats sum = {};
  for_vectors(
      n,
      [&](std::int64_t at) {
        const Floats e = exp_lanes(load(x + at) - maximum_value);
        store(out + at, e);
        sum += e;
      },
      [&](std::int64_t at, std::int64_t count) {
        const Floats e = exp_lanes(load_part(x + at, count) - maximum_value);
        store_part(out + at, e, count);
        sum += load_part(out + at, count);
      });
  return lane_sum(sum);
}

void to_bf16(const float* x, std::int64_t n, std::uint16_t* out) {
  const auto convert = [](Floats v) {
    const Words bits = (Words)v;
    const Words rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    const Words quiet = bits | 0x400000u;
    return __builtin_convertvector(((v == v) ? rounded : quiet) >> 16, Halves);
  };
  for_vectors(
      n,
      [&](std::int64_t at) {
        const Halves bits = convert(load(x + at));
        __builtin_memcpy(out + at, &bits, sizeof(bits));
      },
      [&](std::int64_t at, std::int64_t count) {
        const Halves bits = convert(load_part(x + at, count));
        __builtin_memcpy(out + at, &bits, static_cast<std::size_t>(count) * sizeof(std::uint16_t));
      });
}

}  // namespace
}  // namespace sabrewing::kernels::cpu
