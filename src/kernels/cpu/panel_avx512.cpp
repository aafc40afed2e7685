// AVX-512 inner loops: 6 rows of activations by 4 panels (FP32 multiply-add) or 8 by 2 (integers) in
// registers. K is cut so that the weights of a cut stay in the first-level cache, for the integer products
// decoded there (MXFP4 to bytes, BF16 to 13 bits), and the sums of a tile are kept in `out` between cuts. Few
// rows take MXFP4 and FP32 products in one cut and decode as they stream. An output sees the same operations
// in the same order whatever the number of rows.

#include <immintrin.h>

#include "kernels/cpu/panel_kernels.h"

namespace sabrewing::kernels::cpu {
namespace {

constexpr int kTileF32 = 6;
constexpr int kTileInt = 8;
constexpr int kLoneTileInt = 12;  // of a product of one tile: more sums in memory, but weights decoded once
constexpr std::int64_t kCutF32 = 192;         // of K
constexpr std::int64_t kCutGroups = 12;       // of K / kGroup
constexpr std::int64_t kCutInt16 = 8;         // of K / kGroup
constexpr std::size_t kPrefetchInt16 = 2048;  // ahead of the weights being converted
constexpr int kAheadInt16 = 256;              // per group of a tile
constexpr std::int64_t kStreamRows = 3;       // up to which MXFP4 takes four panels at once
constexpr std::int64_t kAheadBytes = 128;     // per group of a tile, of the next cut of each panel
constexpr std::int64_t kPrefetchGroups = 12;  // kPrefetchBytes of MXFP4 values
constexpr std::size_t kPrefetchBytes = 3072;  // ahead of the weights being read

#define SABREWING_INLINE inline __attribute__((always_inline))
#define SABREWING_UNROLL _Pragma("GCC unroll 16")

using Bytes = const std::byte*;

SABREWING_INLINE __m512i load(Bytes from) { return _mm512_load_si512(from); }
SABREWING_INLINE __m512 broadcast(Bytes row, std::int64_t i) {
  return _mm512_set1_ps(reinterpret_cast<const float*>(row)[i]);
}
SABREWING_INLINE __m512i broadcast_int(Bytes row, std::int64_t byte) {
  return _mm512_set1_epi32(*reinterpret_cast<const int*>(row + byte));
}

// Integer products of which the activation is broadcast by the instruction itself: one issue slot less than
// with a register. GCC does not fold the broadcast of these intrinsics.

/// Adds four products of unsigned bytes of `v` and the signed ones at `a` to each lane.
SABREWING_INLINE void add_dot_int8(__m512i& dot, __m512i v, Bytes a) {
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(dot) : "v"(v), "m"(*reinterpret_cast<const int*>(a)));
}
/// Adds two products of 16-bit integers of `v` and those at `a` to each lane.
SABREWING_INLINE void add_dot_int16(__m512i& dot, __m512i v, Bytes a) {
  __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(dot) : "v"(v), "m"(*reinterpret_cast<const int*>(a)));
}
/// Takes `scale` times the FP32 at `a` from each lane, rounded once.
SABREWING_INLINE __m512 subtract_product(__m512 from, __m512 scale, Bytes a) {
  __asm__("vfnmadd231ps %2%{1to16%}, %1, %0"
          : "+v"(from)
          : "v"(scale), "m"(*reinterpret_cast<const float*>(a)));
  return from;
}
/// Moves each row on. The compiler may not turn this into an index: such an operand takes a slot more.
template <int M>
SABREWING_INLINE void step_rows(Bytes (&row)[M], std::int64_t bytes) {
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    row[m] += bytes;
    __asm__("" : "+r"(row[m]));
  }
}
/// Whether step `i` of a tile of P panels does so. Every panel then loads: two panels would be bound by
/// loads if all steps did, and more gain nothing.
template <int P>
constexpr bool broadcast_in_place(int i) {
  return P == 1 || (P == 2 && i % 4 != 0);
}

SABREWING_INLINE void prefetch(Bytes from) { _mm_prefetch(reinterpret_cast<const char*>(from), _MM_HINT_T0); }

/// 2^(code - 127); 255 is NaN.
SABREWING_INLINE __m512 decode_e8m0(Bytes codes) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  __m512i bits = _mm512_slli_epi32(_mm512_cvtepu8_epi32(bytes), 23);
  bits = _mm512_max_epi32(bits, _mm512_set1_epi32(0x00400000));
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, nan, _mm512_set1_epi32(0x7fc00000)));
}

/// Panels [0, P) of a task, at the start of its K.
struct Panels {
  Bytes first = nullptr;
  Bytes scales = nullptr;
  std::size_t stride = 0;
  std::int64_t k = 0;
};

SABREWING_INLINE Panels panels_from(const PanelTask& task, int first) {
  const std::size_t offset = static_cast<std::size_t>(first) * task.panel_stride;
  return {task.weights + offset, task.scales + offset, task.panel_stride, task.k};
}

// Each format adds the products of elements [begin, end) of K to `sum`; `begin` is a multiple of a cut.

struct BF16 {
  static constexpr int kPanels = 4;

  template <int M, int P>
  static SABREWING_INLINE void add(__m512 (&sum)[M][P], const Panels& w, const Bytes* rows,
                                   std::int64_t begin, std::int64_t end) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
    Bytes at[P];
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p)
      at[p] = w.first + static_cast<std::size_t>(p) * w.stride + begin * kPanelRows * 2;
    std::int64_t i = begin;
    for (; i + 1 < end; i += 2) {
      __m512 v[P];
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) {
        prefetch(at[p] + kPrefetchBytes);
        v[p] = _mm512_castsi512_ps(_mm512_slli_epi32(load(at[p]), 16));
      }
      SABREWING_UNROLL
      for (int m = 0; m < M; ++m) {
        const __m512 a = broadcast(rows[m], i);
        SABREWING_UNROLL
        for (int p = 0; p < P; ++p) sum[m][p] = _mm512_fmadd_ps(a, v[p], sum[m][p]);
      }
      // Reading the pairs again is cheaper than the registers that would hold them.
      __asm__ volatile("" ::: "memory");
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) {
        v[p] = _mm512_castsi512_ps(_mm512_and_si512(load(at[p]), upper));
        at[p] += 64;
      }
      SABREWING_UNROLL
      for (int m = 0; m < M; ++m) {
        const __m512 a = broadcast(rows[m], i + 1);
        SABREWING_UNROLL
        for (int p = 0; p < P; ++p) sum[m][p] = _mm512_fmadd_ps(a, v[p], sum[m][p]);
      }
    }
    if (i < end) {
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) {
        const __m512 v = _mm512_castsi512_ps(_mm512_slli_epi32(load(at[p]), 16));
        SABREWING_UNROLL
        for (int m = 0; m < M; ++m) sum[m][p] = _mm512_fmadd_ps(broadcast(rows[m], i), v, sum[m][p]);
      }
    }
  }
};

template <bool Half>
struct Plain {
  static constexpr int kPanels = 4;

  template <int M, int P>
  static SABREWING_INLINE void add(__m512 (&sum)[M][P], const Panels& w, const Bytes* rows,
                                   std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t kBytes = kPanelRows * (Half ? 2 : 4);
    for (std::int64_t i = begin; i < end; ++i) {
      __m512 v[P];
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) {
        const Bytes at = w.first + static_cast<std::size_t>(p) * w.stride + i * kBytes;
        if (M == 1) prefetch(at + kPrefetchBytes);
        if (Half)
          v[p] = _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(at)));
        else
          v[p] = _mm512_castsi512_ps(load(at));
      }
      SABREWING_UNROLL
      for (int m = 0; m < M; ++m) {
        const __m512 a = broadcast(rows[m], i);
        SABREWING_UNROLL
        for (int p = 0; p < P; ++p) sum[m][p] = _mm512_fmadd_ps(a, v[p], sum[m][p]);
      }
    }
  }
};

struct MXFP4 {
  static constexpr int kPanels = 2;

  template <int M, int P>
  static SABREWING_INLINE void add(__m512 (&sum)[M][P], const Panels& w, const Bytes* rows,
                                   std::int64_t begin, std::int64_t end) {
    const __m512 table = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f, -1.0f,
                                        -1.5f, -2.0f, -3.0f, -4.0f, -6.0f);
    for (std::int64_t i = begin; i < end; i += kGroup) {
      __m512 scale[P];
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p)
        scale[p] = decode_e8m0(w.scales + static_cast<std::size_t>(p) * w.stride + i / kGroup * kPanelRows);
      for (std::int64_t eight = i; eight < i + kGroup; eight += 8) {
        __m512i codes[P];
        SABREWING_UNROLL
        for (int p = 0; p < P; ++p) {
          const Bytes at = w.first + static_cast<std::size_t>(p) * w.stride + eight * kPanelRows / 2;
          if (M == 1) prefetch(at + kPrefetchBytes);
          codes[p] = load(at);
        }
        SABREWING_UNROLL
        for (int j = 0; j < 8; ++j) {
          __m512 v[P];
          SABREWING_UNROLL
          for (int p = 0; p < P; ++p) {
            v[p] = _mm512_mul_ps(_mm512_permutexvar_ps(codes[p], table), scale[p]);
            codes[p] = _mm512_srli_epi32(codes[p], 4);
          }
          SABREWING_UNROLL
          for (int m = 0; m < M; ++m) {
            const __m512 a = broadcast(rows[m], eight + j);
            SABREWING_UNROLL
            for (int p = 0; p < P; ++p) sum[m][p] = _mm512_fmadd_ps(a, v[p], sum[m][p]);
          }
        }
      }
    }
  }
};

template <typename Format, int M, int P>
void tile_f32(const Panels& w, const Bytes* rows, std::int64_t begin, std::int64_t end, float* out,
              std::int64_t stride) {
  __m512 sum[M][P];
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p)
      sum[m][p] = begin == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(out + m * stride + p * kPanelRows);
  }
  Format::template add<M, P>(sum, w, rows, begin, end);
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p) _mm512_storeu_ps(out + m * stride + p * kPanelRows, sum[m][p]);
  }
}

/// Rows of the next tile when `left` are left: tiles of at most `most` rows and of like size.
SABREWING_INLINE std::int64_t tile_rows(std::int64_t left, std::int64_t most) {
  return left / ((left + most - 1) / most);
}

template <typename Format, int P>
void run_panels_f32(const Panels& w, const Bytes* rows, std::int64_t count, float* out, std::int64_t stride) {
  using Tile = void (*)(const Panels&, const Bytes*, std::int64_t, std::int64_t, float*, std::int64_t);
  static constexpr Tile kTiles[kTileF32] = {tile_f32<Format, 1, P>, tile_f32<Format, 2, P>,
                                            tile_f32<Format, 3, P>, tile_f32<Format, 4, P>,
                                            tile_f32<Format, 5, P>, tile_f32<Format, 6, P>};
  const std::int64_t cut = count <= kTileF32 ? w.k : kCutF32;
  for (std::int64_t begin = 0; begin < w.k; begin += cut) {
    const std::int64_t end = begin + cut < w.k ? begin + cut : w.k;
    std::int64_t tile = 0;
    for (std::int64_t row = 0; row < count; row += tile) {
      tile = tile_rows(count - row, kTileF32);
      kTiles[tile - 1](w, rows + row, begin, end, out + row * stride, stride);
    }
  }
}

template <typename Format>
void run_f32(const PanelTask& task) {
  const std::int64_t stride = task.out_stride;
  int done = 0;
  while (done < task.panels) {
    const Panels w = panels_from(task, done);
    float* out = task.out + done * kPanelRows;
    const int left = task.panels - done;
    if (Format::kPanels == 4 && left >= 4) {
      run_panels_f32<Format, Format::kPanels>(w, task.rows, task.row_count, out, stride);
      done += 4;
    } else if (left >= 2) {
      run_panels_f32<Format, 2>(w, task.rows, task.row_count, out, stride);
      done += 2;
    } else {
      run_panels_f32<Format, 1>(w, task.rows, task.row_count, out, stride);
      done += 1;
    }
  }
}

/// Twice the value plus 12, so that it is unsigned: 16 entries, repeated because VPERMB reads six index bits.
SABREWING_INLINE __m512i unsigned_table() {
  return _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
}

// A group's integer sum of products D becomes FP32 without a conversion: its 32-bit lane starts as the bits
// of 1.5 * 2^23 * scale, so that adding D to the lane adds D * scale to that number; from it goes the scale
// times what the row holds beside its codes, exactly. Scales above 2^104 have no room for this: they are
// taken 2^-24 times as large and the row's scale 2^24 times.
constexpr int kLargestPlainCode = 254 - 23;
constexpr int kBoostBits = 24;

/// Weights of one group for P panels, as the tile reads them: 8 times P times 64 bytes, then the scales.
template <int P>
struct DecodedGroup {
  alignas(64) std::uint8_t values[kGroup / 4][P][64];
  alignas(64) float scales[P][kPanelRows];
  alignas(64) std::int32_t starts[P][kPanelRows];
  bool boosted;
};

SABREWING_INLINE __m512i load_codes(Bytes codes) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
}
SABREWING_INLINE __mmask16 large_codes(__m512i codes) {
  return _mm512_cmpgt_epi32_mask(codes, _mm512_set1_epi32(kLargestPlainCode));
}

/// Scales of 16 rows and the lanes that sums start from. Returns whether a row is boosted.
SABREWING_INLINE bool decode_scales(Bytes from, __m512& scale, __m512i& start) {
  __m512i codes = load_codes(from);
  const __mmask16 large = large_codes(codes);
  const bool boosted = __builtin_expect(large != 0, 0);
  __mmask16 nan = 0;
  if (boosted) {
    nan = _mm512_cmpeq_epi32_mask(codes, _mm512_set1_epi32(255));
    codes = _mm512_mask_sub_epi32(codes, large, codes, _mm512_set1_epi32(kBoostBits));
  }
  const __m512i bits = _mm512_slli_epi32(codes, 23);
  start = _mm512_add_epi32(bits, _mm512_set1_epi32((23 << 23) | 0x400000));
  scale = _mm512_castsi512_ps(_mm512_max_epi32(bits, _mm512_set1_epi32(0x00400000)));
  if (boosted) scale = _mm512_mask_mov_ps(scale, nan, _mm512_set1_ps(__builtin_nanf("")));
  return boosted;
}
SABREWING_INLINE __m512 boosts(Bytes from) {
  constexpr float kBoost = 1 << kBoostBits;
  return _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), large_codes(load_codes(from)), _mm512_set1_ps(kBoost));
}

/// Decodes groups [begin, end). Not in the first tile: beside products the same takes half as long again.
template <int P>
SABREWING_INLINE void decode_groups(const Panels& w, std::int64_t begin, std::int64_t end,
                                    DecodedGroup<P>* to) {
  const __m512i table = unsigned_table();
  for (std::int64_t g = begin; g < end; ++g, ++to) {
    bool boosted = false;
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p) {
      __m512 scale;
      __m512i start;
      boosted |=
          decode_scales(w.scales + static_cast<std::size_t>(p) * w.stride + g * kPanelRows, scale, start);
      _mm512_store_ps(to->scales[p], scale);
      _mm512_store_si512(to->starts[p], start);
      SABREWING_UNROLL
      for (int q = 0; q < kGroup / 4; q += 2) {
        const __m512i codes = load(w.first + static_cast<std::size_t>(p) * w.stride + (g * 4 + q / 2) * 64);
        _mm512_store_si512(to->values[q][p], _mm512_permutexvar_epi8(codes, table));
        _mm512_store_si512(to->values[q + 1][p], _mm512_permutexvar_epi8(_mm512_srli_epi16(codes, 4), table));
      }
    }
    to->boosted = boosted;
  }
}

/// Where the tiles of a product find their weights.
enum class Weights : std::uint8_t {
  kPanels,   ///< in the panels
  kDecoded,  ///< where decode_groups put them
};

/// Adds groups [begin, end); `decoded` begins with group `begin`. Prefetches from `ahead` of each panel,
/// unless null, what the next cut will decode: the memory works while the tiles of this cut compute.
template <Weights From, int M, int P>
void tile_int8(const Panels& w, const DecodedGroup<P>* decoded, Bytes ahead, const Bytes* rows,
               std::int64_t begin, std::int64_t end, float* out, std::int64_t stride) {
  const __m512i table = unsigned_table();
  __m512 sum[M][P];
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p)
      sum[m][p] = begin == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(out + m * stride + p * kPanelRows);
  }
  Bytes row[M];
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) row[m] = rows[m] + begin * kInt8GroupBytes;
  for (std::int64_t g = begin; g < end; ++g) {
    if (From == Weights::kDecoded && ahead != nullptr) {
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) {
        const Bytes at = ahead + static_cast<std::size_t>(p) * w.stride + (g - begin) * kAheadBytes;
        prefetch(at);
        prefetch(at + 64);
      }
    }
    // Behind a panel is the next one, which is being read: go on with the next P panels.
    const std::size_t distance =
        kPrefetchBytes +
        (g + kPrefetchGroups >= w.k / kGroup ? static_cast<std::size_t>(P - 1) * w.stride : 0);
    __m512 scale[P];
    __m512i dot[M][P];
    bool boosted = From == Weights::kDecoded && decoded[g - begin].boosted;
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p) {
      if (From == Weights::kDecoded) {
        scale[p] = _mm512_load_ps(decoded[g - begin].scales[p]);
        dot[0][p] = _mm512_load_si512(decoded[g - begin].starts[p]);
        continue;
      }
      boosted |= decode_scales(w.scales + static_cast<std::size_t>(p) * w.stride + g * kPanelRows, scale[p],
                               dot[0][p]);
    }
    SABREWING_UNROLL
    for (int m = 1; m < M; ++m) {
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) dot[m][p] = dot[0][p];
    }
    SABREWING_UNROLL
    for (int q = 0; q < kGroup / 4; ++q) {
      __m512i v[P];
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) {
        if (From == Weights::kDecoded) {
          v[p] = _mm512_load_si512(decoded[g - begin].values[q][p]);
        } else {
          const Bytes at = w.first + static_cast<std::size_t>(p) * w.stride + (g * 4 + q / 2) * 64;
          if (q % 2 == 0) prefetch(at + distance);
          v[p] = _mm512_permutexvar_epi8(q % 2 == 0 ? load(at) : _mm512_srli_epi16(load(at), 4), table);
        }
      }
      SABREWING_UNROLL
      for (int m = 0; m < M; ++m) {
        if (broadcast_in_place<P>(q)) {
          SABREWING_UNROLL
          for (int p = 0; p < P; ++p) add_dot_int8(dot[m][p], v[p], row[m] + q * 4);
          continue;
        }
        const __m512i a = broadcast_int(row[m], q * 4);
        SABREWING_UNROLL
        for (int p = 0; p < P; ++p) dot[m][p] = _mm512_dpbusd_epi32(dot[m][p], v[p], a);
      }
    }
    SABREWING_UNROLL
    for (int m = 0; m < M; ++m) {
      const __m512 a = broadcast(row[m] + kGroup, 0);
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) {
        const __m512 product =
            subtract_product(_mm512_castsi512_ps(dot[m][p]), scale[p], row[m] + kGroup + 4);
        const Bytes codes = w.scales + static_cast<std::size_t>(p) * w.stride + g * kPanelRows;
        const __m512 factor = boosted ? _mm512_mul_ps(a, boosts(codes)) : a;
        sum[m][p] = _mm512_fmadd_ps(product, factor, sum[m][p]);
      }
    }
    step_rows(row, kInt8GroupBytes);
  }
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p) _mm512_storeu_ps(out + m * stride + p * kPanelRows, sum[m][p]);
  }
}

template <int P>
using Int8Tile = void (*)(const Panels&, const DecodedGroup<P>*, Bytes, const Bytes*, std::int64_t,
                          std::int64_t, float*, std::int64_t);

template <Weights From, int P>
constexpr Int8Tile<P> kInt8Tiles[kTileInt] = {
    tile_int8<From, 1, P>, tile_int8<From, 2, P>, tile_int8<From, 3, P>, tile_int8<From, 4, P>,
    tile_int8<From, 5, P>, tile_int8<From, 6, P>, tile_int8<From, 7, P>, tile_int8<From, 8, P>};

template <int P>
void run_panels_int8(const Panels& w, const PanelTask& task, float* out, std::int64_t stride) {
  const std::int64_t groups = w.k / kGroup;
  if (task.row_count <= kLoneTileInt) {
    static constexpr Int8Tile<P> kLarger[kLoneTileInt - kTileInt] = {
        tile_int8<Weights::kPanels, 9, P>, tile_int8<Weights::kPanels, 10, P>,
        tile_int8<Weights::kPanels, 11, P>, tile_int8<Weights::kPanels, 12, P>};
    const Int8Tile<P> tile = task.row_count > kTileInt ? kLarger[task.row_count - kTileInt - 1]
                                                       : kInt8Tiles<Weights::kPanels, P>[task.row_count - 1];
    tile(w, nullptr, nullptr, task.rows, 0, groups, out, stride);
    return;
  }
  static_assert(sizeof(DecodedGroup<P>) * kCutGroups <= kPanelScratchBytes);
  auto* decoded = reinterpret_cast<DecodedGroup<P>*>(task.scratch);
  const std::int64_t cuts = (groups + kCutGroups - 1) / kCutGroups;
  for (std::int64_t cut = 0; cut < cuts; ++cut) {
    const std::int64_t begin = groups * cut / cuts;
    const std::int64_t end = groups * (cut + 1) / cuts;
    decode_groups<P>(w, begin, end, decoded);
    // After the last cut the next P panels are likely to be read.
    constexpr std::int64_t kCutBytes = kCutGroups * kGroup * kPanelRows / 2;
    const std::size_t behind = static_cast<std::size_t>(P) * w.stride;
    const auto cut_end = static_cast<std::size_t>(end);
    const Bytes next = w.first + (end < groups ? cut_end * kGroup * kPanelRows / 2 : behind);
    const Bytes next_scales = w.scales + (end < groups ? cut_end * kPanelRows : behind);
    for (int p = 0; p < P; ++p)
      for (std::int64_t i = 0; i < kCutGroups * kPanelRows; i += 64)
        prefetch(next_scales + static_cast<std::size_t>(p) * w.stride + i);
    std::int64_t prefetched = 0;
    std::int64_t tile = 0;
    for (std::int64_t row = 0; row < task.row_count; row += tile) {
      tile = tile_rows(task.row_count - row, kTileInt);
      const Bytes ahead = prefetched < kCutBytes ? next + prefetched : nullptr;
      kInt8Tiles<Weights::kDecoded, P>[tile - 1](w, decoded, ahead, task.rows + row, begin, end,
                                                 out + row * stride, stride);
      prefetched += (end - begin) * kAheadBytes;
    }
  }
}

void run_int8(const PanelTask& task) {
  const std::int64_t stride = task.out_stride;
  int done = 0;
  while (done < task.panels) {
    const Panels w = panels_from(task, done);
    float* out = task.out + done * kPanelRows;
    if (task.row_count <= kStreamRows && task.panels - done >= kMaxPanels) {
      // Few rows are bound by memory, which four streams keep busier than two.
      static constexpr Int8Tile<kMaxPanels> kTiles[kStreamRows] = {
          tile_int8<Weights::kPanels, 1, kMaxPanels>, tile_int8<Weights::kPanels, 2, kMaxPanels>,
          tile_int8<Weights::kPanels, 3, kMaxPanels>};
      kTiles[task.row_count - 1](w, nullptr, nullptr, task.rows, 0, task.k / kGroup, out, stride);
      done += kMaxPanels;
    } else if (task.panels - done >= 2) {
      run_panels_int8<2>(w, task, out, stride);
      done += 2;
    } else {
      run_panels_int8<1>(w, task, out, stride);
      done += 1;
    }
  }
}

void quantize_int8(const float* x, std::int64_t first_group, std::int64_t groups, std::byte* row) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const __m256i order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
  std::byte* to = row + first_group * kInt8GroupBytes;
  for (std::int64_t g = 0; g < groups; ++g, x += kGroup, to += kInt8GroupBytes) {
    const __m512 low = _mm512_loadu_ps(x);
    const __m512 high = _mm512_loadu_ps(x + 16);
    const unsigned bits =
        _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(low), magnitude),
                                                 _mm512_and_si512(_mm512_castps_si512(high), magnitude)));
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
    // Without this mask infinity times zero would be converted.
    const __mmask16 keep = inverse == 0 ? 0 : 0xffff;
    const __m512 factor = _mm512_set1_ps(inverse);
    const __m512i low_codes = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(low, factor));
    const __m512i high_codes = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(high, factor));
    const __m256i codes = _mm256_set_m128i(_mm512_cvtepi32_epi8(high_codes), _mm512_cvtepi32_epi8(low_codes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_shuffle_epi8(codes, order));
    *reinterpret_cast<float*>(to + kGroup) = scale;
    *reinterpret_cast<float*>(to + kGroup + 4) =
        kInt8Magic +
        static_cast<float>(12 * _mm512_reduce_add_epi32(_mm512_add_epi32(low_codes, high_codes)));
  }
}

/// BF16 weights of one group as 13-bit integers, in the order of the packed layout, and their scales.
template <int P>
struct FixedGroup {
  alignas(64) std::int16_t values[kGroup / 2][P][32];
  alignas(64) float scales[P][kPanelRows];
};

/// Converts groups: scale = largest magnitude / 4095 of a row's group, NaN when it is not finite, 0 below
/// 2^-112.
template <int P>
void fix_groups(const Panels& w, std::int64_t first, std::int64_t groups, FixedGroup<P>* to) {
  constexpr int kPairs = kGroup / 2;
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  const __m512i magnitude = _mm512_set1_epi16(0x7fff);
  for (std::int64_t g = 0; g < groups; ++g) {
    for (int p = 0; p < P; ++p) {
      Bytes at = w.first + static_cast<std::size_t>(p) * w.stride + (first + g) * kPairs * 64;
      const std::int64_t pairs = (w.k + 1) / 2 - (first + g) * kPairs;
      alignas(64) std::byte tail[kPairs * 64];
      if (pairs < kPairs) {
        for (int i = 0; i < kPairs; ++i)
          _mm512_store_si512(tail + i * 64, i < pairs ? load(at + i * 64) : _mm512_setzero_si512());
        at = tail;
      }
      // Two chains, since one alone is waited for.
      __m512i maxima[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
      SABREWING_UNROLL
      for (int i = 0; i < kPairs; ++i)
        maxima[i % 2] = _mm512_max_epu16(maxima[i % 2], _mm512_and_si512(load(at + i * 64), magnitude));
      const __m512i largest = _mm512_max_epu16(maxima[0], maxima[1]);
      const __m512i even = _mm512_slli_epi32(largest, 16);
      const __m512i odd = _mm512_and_si512(largest, upper);
      const __m512i bits = _mm512_max_epu32(even, odd);
      const __m512 peak = _mm512_castsi512_ps(bits);
      const __mmask16 finite = _mm512_cmplt_epu32_mask(bits, _mm512_set1_epi32(0x7f800000));
      const __mmask16 keep = finite & _mm512_cmp_ps_mask(peak, _mm512_set1_ps(0x1p-112f), _CMP_GE_OQ);
      const __m512 inverse = _mm512_maskz_div_ps(keep, _mm512_set1_ps(4095.0f), peak);
      const __m512 scale = _mm512_maskz_mul_ps(keep, peak, _mm512_set1_ps(1.0f / 4095));
      _mm512_store_ps(to[g].scales[p], _mm512_mask_mov_ps(_mm512_set1_ps(__builtin_nanf("")), finite, scale));
      SABREWING_UNROLL
      for (int i = 0; i < kPairs; ++i) {
        prefetch(at + i * 64 + kPrefetchInt16);
        const __m512i pair = load(at + i * 64);
        const __m512 low = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
        const __m512 high = _mm512_castsi512_ps(_mm512_and_si512(pair, upper));
        const __m512i low_code = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
        const __m512i high_code = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
        _mm512_store_si512(to[g].values[i][p],
                           _mm512_mask_blend_epi16(0xaaaaaaaa, low_code, _mm512_slli_epi32(high_code, 16)));
      }
    }
  }
}

template <int M, int P>
void tile_int16(const Panels& w, const FixedGroup<P>* fixed, Bytes ahead, const Bytes* rows,
                std::int64_t begin, std::int64_t end, float* out, std::int64_t stride) {
  __m512 sum[M][P];
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p)
      sum[m][p] = begin == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(out + m * stride + p * kPanelRows);
  }
  Bytes row[M];
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) row[m] = rows[m] + begin * kInt16GroupBytes;
  for (std::int64_t g = begin; g < end; ++g, ++fixed) {
    if (ahead != nullptr) {
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) {
        const Bytes at = ahead + static_cast<std::size_t>(p) * w.stride + (g - begin) * kAheadInt16;
        SABREWING_UNROLL
        for (int line = 0; line < kAheadInt16; line += 64) prefetch(at + line);
      }
    }
    __m512i dot[M][P];
    SABREWING_UNROLL
    for (int m = 0; m < M; ++m) {
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) dot[m][p] = _mm512_setzero_si512();
    }
    SABREWING_UNROLL
    for (int i = 0; i < kGroup / 2; ++i) {
      __m512i v[P];
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) v[p] = _mm512_load_si512(fixed->values[i][p]);
      SABREWING_UNROLL
      for (int m = 0; m < M; ++m) {
        if (broadcast_in_place<P>(i)) {
          SABREWING_UNROLL
          for (int p = 0; p < P; ++p) add_dot_int16(dot[m][p], v[p], row[m] + i * 4);
          continue;
        }
        const __m512i a = broadcast_int(row[m], i * 4);
        SABREWING_UNROLL
        for (int p = 0; p < P; ++p) dot[m][p] = _mm512_dpwssd_epi32(dot[m][p], v[p], a);
      }
    }
    SABREWING_UNROLL
    for (int m = 0; m < M; ++m) {
      const __m512 a = _mm512_castsi512_ps(broadcast_int(row[m], kGroup * 2));
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p)
        sum[m][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m][p]),
                                    _mm512_mul_ps(_mm512_load_ps(fixed->scales[p]), a), sum[m][p]);
    }
    step_rows(row, kInt16GroupBytes);
  }
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p) _mm512_storeu_ps(out + m * stride + p * kPanelRows, sum[m][p]);
  }
}

template <int P>
void run_panels_int16(const Panels& w, const PanelTask& task, float* out, std::int64_t stride) {
  using Tile = void (*)(const Panels&, const FixedGroup<P>*, Bytes, const Bytes*, std::int64_t, std::int64_t,
                        float*, std::int64_t);
  static constexpr Tile kTiles[kTileInt] = {tile_int16<1, P>, tile_int16<2, P>, tile_int16<3, P>,
                                            tile_int16<4, P>, tile_int16<5, P>, tile_int16<6, P>,
                                            tile_int16<7, P>, tile_int16<8, P>};
  static_assert(sizeof(FixedGroup<P>) * kCutInt16 <= kPanelScratchBytes);
  constexpr std::int64_t kCutBytes = kCutInt16 * kGroup * kPanelRows * 2;
  const std::int64_t groups = (w.k + kGroup - 1) / kGroup;
  auto* fixed = reinterpret_cast<FixedGroup<P>*>(task.scratch);
  for (std::int64_t begin = 0; begin < groups; begin += kCutInt16) {
    const std::int64_t end = begin + kCutInt16 < groups ? begin + kCutInt16 : groups;
    fix_groups<P>(w, begin, end - begin, fixed);
    const Bytes next = w.first + (end < groups ? static_cast<std::size_t>(end * kGroup * kPanelRows * 2)
                                               : static_cast<std::size_t>(P) * w.stride);
    std::int64_t prefetched = 0;
    std::int64_t tile = 0;
    for (std::int64_t row = 0; row < task.row_count; row += tile) {
      tile = tile_rows(task.row_count - row, kTileInt);
      const Bytes ahead = task.row_count > kTileInt && prefetched < kCutBytes ? next + prefetched : nullptr;
      kTiles[tile - 1](w, fixed, ahead, task.rows + row, begin, end, out + row * stride, stride);
      prefetched += (end - begin) * kAheadInt16;
    }
  }
}

/// Few rows are bound by memory: four panels, group by group, keep it busier.
template <int M>
void stream_panels_int16(const Panels& w, const PanelTask& task, float* out, std::int64_t stride) {
  auto* fixed = reinterpret_cast<FixedGroup<kMaxPanels>*>(task.scratch);
  for (std::int64_t g = 0; g < (w.k + kGroup - 1) / kGroup; ++g) {
    fix_groups<kMaxPanels>(w, g, 1, fixed);
    tile_int16<M, kMaxPanels>(w, fixed, nullptr, task.rows, g, g + 1, out, stride);
  }
}

void run_int16(const PanelTask& task) {
  using Stream = void (*)(const Panels&, const PanelTask&, float*, std::int64_t);
  static constexpr Stream kStreams[kStreamRows] = {stream_panels_int16<1>, stream_panels_int16<2>,
                                                   stream_panels_int16<3>};
  const std::int64_t stride = task.out_stride;
  if (task.panels == kMaxPanels && task.row_count <= kStreamRows) {
    kStreams[task.row_count - 1](panels_from(task, 0), task, task.out, stride);
    return;
  }
  int done = 0;
  for (; done + 2 <= task.panels; done += 2)
    run_panels_int16<2>(panels_from(task, done), task, task.out + done * kPanelRows, stride);
  if (done < task.panels)
    run_panels_int16<1>(panels_from(task, done), task, task.out + done * kPanelRows, stride);
}

void quantize_int16(const float* x, std::int64_t first_group, std::int64_t groups, std::byte* row) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  std::byte* to = row + first_group * kInt16GroupBytes;
  for (std::int64_t g = 0; g < groups; ++g, x += kGroup, to += kInt16GroupBytes) {
    const __m512 low = _mm512_loadu_ps(x);
    const __m512 high = _mm512_loadu_ps(x + 16);
    const unsigned bits =
        _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(low), magnitude),
                                                 _mm512_and_si512(_mm512_castps_si512(high), magnitude)));
    float largest = 0;
    __builtin_memcpy(&largest, &bits, sizeof(largest));
    float scale = 0;
    float inverse = 0;
    if (bits >= 0x7f800000) {
      scale = __builtin_nanf("");
    } else if (largest >= 0x1p-112f) {
      scale = largest * (1.0f / 16383);
      inverse = 16383.0f / largest;
    }
    const __mmask16 keep = inverse == 0 ? 0 : 0xffff;
    const __m512 factor = _mm512_set1_ps(inverse);
    const __m512i low_codes = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(low, factor));
    const __m512i high_codes = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(high, factor));
    auto* codes = reinterpret_cast<__m256i*>(to);
    _mm256_storeu_si256(codes, _mm512_cvtepi32_epi16(low_codes));
    _mm256_storeu_si256(codes + 1, _mm512_cvtepi32_epi16(high_codes));
    *reinterpret_cast<float*>(to + kGroup * 2) = scale;
  }
}

}  // namespace

PanelKernels avx512_panel_kernels() {
  PanelKernels kernels;
  kernels.name = "avx512";
  kernels.bf16_f32 = run_f32<BF16>;
  kernels.fp16_f32 = run_f32<Plain<true>>;
  kernels.fp32_f32 = run_f32<Plain<false>>;
  kernels.mxfp4_f32 = run_f32<MXFP4>;
  kernels.mxfp4_int8 = run_int8;
  kernels.quantize_int8 = quantize_int8;
  kernels.bf16_int16 = run_int16;
  kernels.quantize_int16 = quantize_int16;
  return kernels;
}

}  // namespace sabrewing::kernels::cpu
