// BF16 weights times BF16 activations by VDPBF16PS: 6 rows by 4 panels in registers. K is not cut: the second
// and later tiles of rows find the panels in the second-level cache.

#include <immintrin.h>

#include "kernels/cpu/panel_kernels.h"

namespace sabrewing::kernels::cpu {
namespace {

constexpr int kTileRows = 6;

#define SABREWING_UNROLL _Pragma("GCC unroll 16")

template <int M, int P>
void tile(const PanelTask& task, int first_panel, std::int64_t first_row) {
  __m512 sum[M][P];
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p) sum[m][p] = _mm512_setzero_ps();
  }
  const std::byte* weights = task.weights + static_cast<std::size_t>(first_panel) * task.panel_stride;
  const std::byte* const* rows = task.rows + first_row;
  for (std::int64_t pair = 0; pair < (task.k + 1) / 2; ++pair) {
    __m512bh v[P];
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p)
      v[p] = reinterpret_cast<__m512bh>(
          _mm512_load_si512(weights + static_cast<std::size_t>(p) * task.panel_stride + pair * 64));
    SABREWING_UNROLL
    for (int m = 0; m < M; ++m) {
      const auto a =
          reinterpret_cast<__m512bh>(_mm512_set1_epi32(reinterpret_cast<const int*>(rows[m])[pair]));
      SABREWING_UNROLL
      for (int p = 0; p < P; ++p) sum[m][p] = _mm512_dpbf16_ps(sum[m][p], v[p], a);
    }
  }
  float* out = task.out + first_row * task.out_stride + first_panel * kPanelRows;
  SABREWING_UNROLL
  for (int m = 0; m < M; ++m) {
    SABREWING_UNROLL
    for (int p = 0; p < P; ++p) _mm512_storeu_ps(out + m * task.out_stride + p * kPanelRows, sum[m][p]);
  }
}

template <int P>
void run_panels(const PanelTask& task, int first_panel) {
  using Tile = void (*)(const PanelTask&, int, std::int64_t);
  static constexpr Tile kTiles[kTileRows] = {tile<1, P>, tile<2, P>, tile<3, P>,
                                             tile<4, P>, tile<5, P>, tile<6, P>};
  for (std::int64_t row = 0; row < task.row_count; row += kTileRows) {
    const std::int64_t left = task.row_count - row;
    kTiles[(left < kTileRows ? left : kTileRows) - 1](task, first_panel, row);
  }
}

void run(const PanelTask& task) {
  int done = 0;
  for (; done + 4 <= task.panels; done += 4) run_panels<4>(task, done);
  for (; done < task.panels; ++done) run_panels<1>(task, done);
}

}  // namespace

PanelKernel avx512_bf16_dot_kernel() { return run; }

}  // namespace sabrewing::kernels::cpu
