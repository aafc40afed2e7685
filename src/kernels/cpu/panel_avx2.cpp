// AVX2 inner loops: a panel is two vectors of 8 rows. FP32 multiply-add takes 6 rows of activations at a
// time; int8 takes 4 and goes through VPMADDUBSW, whose 16-bit sums hold four products of pairs without
// saturating (4 * 2 * 24 * 127 < 2^15).

#include <immintrin.h>

#include "kernels/cpu/panel_kernels.h"

namespace sabrewing::kernels::cpu {
namespace {

#define SABREWING_INLINE inline __attribute__((always_inline))
#define SABREWING_UNROLL _Pragma("GCC unroll 16")

constexpr int kTileF32 = 6;
constexpr int kTileInt8 = 4;
constexpr std::size_t kPrefetchBytes = 2048;  // ahead of the weights being read
constexpr std::int64_t kCut = 384;            // of K: a panel's weights stay in the first-level cache

using Bytes = const std::byte*;

SABREWING_INLINE __m256i load(Bytes from) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
}

SABREWING_INLINE void prefetch(Bytes from) { _mm_prefetch(reinterpret_cast<const char*>(from), _MM_HINT_T0); }

/// 2^(code - 127) of eight codes; 255 is NaN.
SABREWING_INLINE __m256 decode_e8m0(Bytes codes) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes));
  __m256i bits = _mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes), 23);
  bits = _mm256_max_epi32(bits, _mm256_set1_epi32(0x00400000));
  const __m256i nan = _mm256_cmpeq_epi32(bits, _mm256_set1_epi32(0x7f800000));
  return _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_and_si256(nan, _mm256_set1_epi32(0x00400000))));
}

// Each format adds the products of elements [begin, end) of K; `begin` is a multiple of kCut.

template <int M>
SABREWING_INLINE void add_column(__m256 (&sum)[M][2], const Bytes* rows, std::int64_t i, __m256 low,
                                 __m256 high) {
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    const __m256 a = _mm256_broadcast_ss(reinterpret_cast<const float*>(rows[m]) + i);
    sum[m][0] = _mm256_fmadd_ps(a, low, sum[m][0]);
    sum[m][1] = _mm256_fmadd_ps(a, high, sum[m][1]);
  }
}

struct BF16 {
  template <int M>
  static SABREWING_INLINE void add(__m256 (&sum)[M][2], Bytes panel, Bytes, const Bytes* rows,
                                   std::int64_t begin, std::int64_t end) {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000));
    for (std::int64_t i = begin; i < end; i += 2) {
      const Bytes at = panel + i * kPanelRows * 2;
      prefetch(at + kPrefetchBytes);
      add_column<M>(sum, rows, i, _mm256_castsi256_ps(_mm256_slli_epi32(load(at), 16)),
                    _mm256_castsi256_ps(_mm256_slli_epi32(load(at + 32), 16)));
      if (i + 1 < end)
        add_column<M>(sum, rows, i + 1, _mm256_castsi256_ps(_mm256_and_si256(load(at), upper)),
                      _mm256_castsi256_ps(_mm256_and_si256(load(at + 32), upper)));
    }
  }
};

struct FP16 {
  template <int M>
  static SABREWING_INLINE void add(__m256 (&sum)[M][2], Bytes panel, Bytes, const Bytes* rows,
                                   std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto* at = reinterpret_cast<const __m128i*>(panel + i * kPanelRows * 2);
      add_column<M>(sum, rows, i, _mm256_cvtph_ps(_mm_load_si128(at)),
                    _mm256_cvtph_ps(_mm_load_si128(at + 1)));
    }
  }
};

struct FP32 {
  template <int M>
  static SABREWING_INLINE void add(__m256 (&sum)[M][2], Bytes panel, Bytes, const Bytes* rows,
                                   std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto* at = reinterpret_cast<const float*>(panel) + i * kPanelRows;
      add_column<M>(sum, rows, i, _mm256_load_ps(at), _mm256_load_ps(at + 8));
    }
  }
};

/// The value of the low four bits of each element: magnitude by table, sign by shift.
SABREWING_INLINE __m256 decode_e2m1(__m256i codes) {
  const __m256 magnitudes = _mm256_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
  const __m256i sign =
      _mm256_and_si256(_mm256_slli_epi32(codes, 28), _mm256_set1_epi32(static_cast<int>(1u << 31)));
  return _mm256_or_ps(_mm256_permutevar8x32_ps(magnitudes, codes), _mm256_castsi256_ps(sign));
}

struct MXFP4 {
  template <int M>
  static SABREWING_INLINE void add(__m256 (&sum)[M][2], Bytes panel, Bytes scales, const Bytes* rows,
                                   std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += kGroup) {
      const Bytes at = scales + i / kGroup * kPanelRows;
      const __m256 scale[2] = {decode_e8m0(at), decode_e8m0(at + 8)};
      for (std::int64_t eight = i; eight < i + kGroup; eight += 8) {
        __m256i codes[2] = {load(panel + eight * kPanelRows / 2), load(panel + eight * kPanelRows / 2 + 32)};
        for (int j = 0; j < 8; ++j) {
          add_column<M>(sum, rows, eight + j, _mm256_mul_ps(decode_e2m1(codes[0]), scale[0]),
                        _mm256_mul_ps(decode_e2m1(codes[1]), scale[1]));
          codes[0] = _mm256_srli_epi32(codes[0], 4);
          codes[1] = _mm256_srli_epi32(codes[1], 4);
        }
      }
    }
  }
};

template <typename Format, int M>
void tile_f32(Bytes panel, Bytes scales, const Bytes* rows, std::int64_t begin, std::int64_t end, float* out,
              std::int64_t stride) {
  __m256 sum[M][2];
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    SABREWING_UNROLL
    for (int h = 0; h < 2; ++h)
      sum[m][h] = begin == 0 ? _mm256_setzero_ps() : _mm256_loadu_ps(out + m * stride + h * 8);
  }
  Format::template add<M>(sum, panel, scales, rows, begin, end);
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    SABREWING_UNROLL
    for (int h = 0; h < 2; ++h) _mm256_storeu_ps(out + m * stride + h * 8, sum[m][h]);
  }
}

template <typename Format>
void run_f32(const PanelTask& task) {
  using Tile = void (*)(Bytes, Bytes, const Bytes*, std::int64_t, std::int64_t, float*, std::int64_t);
  static constexpr Tile kTiles[kTileF32] = {tile_f32<Format, 1>, tile_f32<Format, 2>, tile_f32<Format, 3>,
                                            tile_f32<Format, 4>, tile_f32<Format, 5>, tile_f32<Format, 6>};
  const std::int64_t stride = task.out_stride;
  const std::int64_t cut = task.row_count <= kTileF32 ? task.k : kCut;
  for (int p = 0; p < task.panels; ++p) {
    const Bytes panel = task.weights + static_cast<std::size_t>(p) * task.panel_stride;
    const Bytes scales = task.scales + static_cast<std::size_t>(p) * task.panel_stride;
    for (std::int64_t begin = 0; begin < task.k; begin += cut) {
      const std::int64_t end = begin + cut < task.k ? begin + cut : task.k;
      for (std::int64_t row = 0; row < task.row_count; row += kTileF32) {
        const std::int64_t left = task.row_count - row;
        kTiles[(left < kTileF32 ? left : kTileF32) - 1](panel, scales, task.rows + row, begin, end,
                                                        task.out + row * stride + p * kPanelRows, stride);
      }
    }
  }
}

/// Eight rows of a panel: `panel` and `scales` point at the first of them.
template <int M>
void tile_int8(Bytes panel, Bytes scales, std::int64_t k, const Bytes* rows, float* out,
               std::int64_t stride) {
  const __m256i table =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i magic = _mm256_castps_si256(_mm256_set1_ps(kInt8Magic));
  const std::int64_t groups = k / kGroup;
  __m256 sum[M];
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) sum[m] = _mm256_setzero_ps();
  for (std::int64_t g = 0; g < groups; ++g) {
    __m256i dot[M];
    SABREWING_UNROLL
    for (int m = 0; m < M; ++m) {
      // -12 * sum of the codes: the weights are shifted up by 12.
      const Bytes excess = rows[m] + g * kInt8GroupBytes + kGroup + 4;
      dot[m] = _mm256_sub_epi32(magic, _mm256_set1_epi32(*reinterpret_cast<const int*>(excess)));
    }
    for (int part = 0; part < 2; ++part) {
      __m256i pairs[M];
      SABREWING_UNROLL
      for (int m = 0; m < M; ++m) pairs[m] = _mm256_setzero_si256();
      SABREWING_UNROLL
      for (int q = 0; q < 4; ++q) {
        const Bytes at = panel + (g * 4 + part * 2 + q / 2) * 64;
        if (q % 2 == 0) prefetch(at + kPrefetchBytes);
        const __m256i codes = load(at);
        const __m256i index = _mm256_and_si256(q % 2 == 0 ? codes : _mm256_srli_epi16(codes, 4), nibble);
        const __m256i v = _mm256_shuffle_epi8(table, index);
        SABREWING_UNROLL
        for (int m = 0; m < M; ++m) {
          const int four = *reinterpret_cast<const int*>(rows[m] + g * kInt8GroupBytes + part * 16 + q * 4);
          pairs[m] = _mm256_add_epi16(pairs[m], _mm256_maddubs_epi16(v, _mm256_set1_epi32(four)));
        }
      }
      SABREWING_UNROLL
      for (int m = 0; m < M; ++m) dot[m] = _mm256_add_epi32(dot[m], _mm256_madd_epi16(pairs[m], ones));
    }
    const __m256 scale = decode_e8m0(scales + g * kPanelRows);
    SABREWING_UNROLL
    for (int m = 0; m < M; ++m) {
      const __m256 a =
          _mm256_broadcast_ss(reinterpret_cast<const float*>(rows[m] + g * kInt8GroupBytes + kGroup));
      sum[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[m]), _mm256_mul_ps(scale, a), sum[m]);
    }
  }
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) _mm256_storeu_ps(out + m * stride, sum[m]);
}

void run_int8(const PanelTask& task) {
  using Tile = void (*)(Bytes, Bytes, std::int64_t, const Bytes*, float*, std::int64_t);
  static constexpr Tile kTiles[kTileInt8] = {tile_int8<1>, tile_int8<2>, tile_int8<3>, tile_int8<4>};
  const std::int64_t stride = task.out_stride;
  for (int p = 0; p < task.panels; ++p) {
    const Bytes panel = task.weights + static_cast<std::size_t>(p) * task.panel_stride;
    const Bytes scales = task.scales + static_cast<std::size_t>(p) * task.panel_stride;
    for (std::int64_t row = 0; row < task.row_count; row += kTileInt8) {
      const std::int64_t left = task.row_count - row;
      const Tile tile = kTiles[(left < kTileInt8 ? left : kTileInt8) - 1];
      float* out = task.out + row * stride + p * kPanelRows;
      tile(panel, scales, task.k, task.rows + row, out, stride);
      tile(panel + 32, scales + 8, task.k, task.rows + row, out + 8, stride);
    }
  }
}

void quantize_int8(const float* x, std::int64_t first_group, std::int64_t groups, std::byte* row) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  const __m256i lanes = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
  std::byte* to = row + first_group * kInt8GroupBytes;
  for (std::int64_t g = 0; g < groups; ++g, x += kGroup, to += kInt8GroupBytes) {
    __m256i peak = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i)
      peak = _mm256_max_epu32(peak,
                              _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i * 8)), magnitude));
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(peak), _mm256_extracti128_si256(peak, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1));
    const auto bits = static_cast<unsigned>(_mm_cvtsi128_si32(four));
    float largest = 0;
    __builtin_memcpy(&largest, &bits, sizeof(largest));
    float scale = 0;
    float inverse = 0;
    if (bits >= 0x7f800000) {
      scale = __builtin_nanf("");
    } else if (largest >= 0x1p-119f) {
      scale = largest * (1.0f / 254);
      inverse = 127.0f / largest;
    }
    const __m256 factor = _mm256_set1_ps(inverse);
    const __m256i keep = _mm256_set1_epi32(inverse == 0 ? 0 : -1);
    __m256i codes[4];
    __m256i total = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i) {
      const __m256i code = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i * 8), factor));
      codes[i] = _mm256_and_si256(code, keep);
      total = _mm256_add_epi32(total, codes[i]);
    }
    const __m256i low = _mm256_packs_epi32(codes[0], codes[1]);
    const __m256i high = _mm256_packs_epi32(codes[2], codes[3]);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), lanes);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_shuffle_epi8(bytes, order));
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    *reinterpret_cast<float*>(to + kGroup) = scale;
    *reinterpret_cast<float*>(to + kGroup + 4) = kInt8Magic + static_cast<float>(12 * _mm_cvtsi128_si32(sum));
  }
}

}  // namespace

PanelKernels avx2_panel_kernels() {
  PanelKernels kernels;
  kernels.name = "avx2";
  kernels.bf16_f32 = run_f32<BF16>;
  kernels.fp16_f32 = run_f32<FP16>;
  kernels.fp32_f32 = run_f32<FP32>;
  kernels.mxfp4_f32 = run_f32<MXFP4>;
  kernels.mxfp4_int8 = run_int8;
  kernels.quantize_int8 = quantize_int8;
  return kernels;
}

}  // namespace sabrewing::kernels::cpu
