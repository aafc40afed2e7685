#pragma once
// Consumer warpgroups of gemm_wgmma.cuh whose operand A is 64 tokens each, kHalves times, and B the weights
// of a tile's features, both in shared memory: for weights that are operands already, where every run of
// columns has a scale of each token. A thread has two rows of the sums, so that it reads two tokens' scales
// for a run; with the tokens as B it would read those of all of the tile's tokens from shared memory, whose
// bandwidth the operands take.
//
// Scales of a run: [kTokens] of tokens, then [kBlocks] of blocks of 64 features where the weight has them.

namespace sabrewing::device {

template <typename Config, typename TileOf>
SW_DEVICE void consume_tokens_first(const GemmParams& p, u32 base, u32 full, u32 empty, int slabs, int tiles,
                                    int first_tile, int tile_step, const TileOf& my_tile) {
  using Layout = WgmmaLayout<Config>;
  using Decoder = typename Config::Decoder;
  using Output = typename Config::Output;
  using TokenScale = typename Config::TokenScale;
  using Sum = typename Config::Sum;
  constexpr int kStages = Config::kStages;
  constexpr int kBlocks = Config::kBlocks;
  constexpr int kHalves = Config::kHalves;
  constexpr int kFeatures = 64 * kBlocks;
  constexpr int kRunColumns = run_columns<Config>();
  constexpr int kRun = (kRunColumns < 128 ? kRunColumns : 128) / 32;  // instructions
  constexpr bool kTokenGroups = TokenScale::kColumns > 0;
  constexpr bool kBlockScales = Decoder::kScaleAfter;
  static_assert(kIsOperand<Decoder> && Layout::kBoxes == 1 && kRunColumns > 0 && Config::kSplit == 1);
  static_assert(Config::kTokens == 64 * Config::kGroups * kHalves);
  static_assert(!kBlockScales || (Decoder::kBlockScale && kTokenGroups));

  const int lane = lane_id();
  const int group = warp_id() / 4;
  const int group_warp = warp_id() & 3;
  // Of each half, and the one 8 behind it.
  const int my_row = group * 64 + group_warp * 16 + lane / 4;
  constexpr int kHalfTokens = 64 * Config::kGroups;
  const u32 my_tokens = operand_low(base + group * 64 * 128);
  const u32 my_weights = operand_low(base + Layout::kWeightOffset);
  const u32 scale_base = base + Layout::kScaleOffset;

  float acc[kHalves][kFeatures / 2];
  Sum part[kFeatures / 2];
  float run_scale[kBlocks][2];
  constexpr int kFactors = (kFeatures + 127) / 128;
  float2 my_factors[kFactors];  // of a thread's features

  const auto stage_before = [](int s) { return s == 0 ? kStages - 1 : s - 1; };
  const auto release = [&](int stage) {
    __syncwarp();
    if constexpr (Config::kShare > 1) {
      if (lane < Config::kShare) barrier_arrive_at(empty + stage * 8, lane);
    } else {
      if (Config::kEveryLaneArrives || lane == 0) barrier_arrive(empty + stage * 8);
    }
  };
  // Of the run of `half` with the scales of group `scales` of a stage.
  const auto load_scales = [&](int stage, int scales, int half) {
    if constexpr (kTokenGroups) {
      const u32 from = scale_base + stage * Layout::kScaleStage + scales * Layout::kGroupScales * 4;
      const u32 from_row = from + (half * kHalfTokens + my_row) * 4;
      const float low = __uint_as_float(load_shared(from_row));
      const float high = __uint_as_float(load_shared(from_row + 32));
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const float block =
            kBlockScales ? __uint_as_float(load_shared(from + (Config::kTokens + b) * 4)) : 1.0f;
        run_scale[b][0] = low * block;
        run_scale[b][1] = high * block;
      }
    }
  };
  const auto promote = [&](int half) {
#pragma unroll
    for (int i = 0; i < kFeatures / 8; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float sum = static_cast<float>(part[4 * i + e]);
        acc[half][4 * i + e] += kTokenGroups ? sum * run_scale[i / 8][e / 2] : sum;
      }
  };
  // Rows of a warp's scratch are its tokens, of 64 features at a time, with 16-byte parts exchanged so that
  // neither writing nor reading conflicts.
  const auto store = [&](const Tile& tile) {
    const int lane = thread_id_again() % 32;
    // Factors that the warpgroup's threads have loaded, to all of them.
    const u32 factors = base + Layout::kFactorOffset + group * kFeatures * 8;
#pragma unroll
    for (int i = 0; i < kFactors; ++i) {
      const int feature = i * 128 + thread_id_again() % 128;
      if (kFeatures % 128 != 0 && feature >= kFeatures) break;
      store_shared(factors + feature * 8, my_factors[i].x);
      store_shared(factors + feature * 8 + 4, my_factors[i].y);
    }
    group_barrier(2 + group);
    const auto load_factors = [&](int feature, float2(&factor)[2]) {
      u32 words[4];
      load_shared(factors + feature * 8, words);
      factor[0] = make_float2(__uint_as_float(words[0]), __uint_as_float(words[1]));
      factor[1] = make_float2(__uint_as_float(words[2]), __uint_as_float(words[3]));
    };
    const int warp = thread_id_again() / 32;
    const u32 scratch = base + Layout::kScratchOffset + warp * Layout::kWarpScratch;
#pragma unroll
    for (int piece = 0; piece < kHalves * kBlocks; ++piece) {
      const int half = piece / kBlocks, b = piece % kBlocks;
      const int token0 = tile.token * Config::kTokens + half * kHalfTokens + warp * 16;
      const int token = token0 + lane / 4;
      const int block = tile.feature * kFeatures + b * 64;
      if (token0 >= p.m || block >= p.n) continue;
      float scale[2] = {1.0f, 1.0f};
      if constexpr (TokenScale::kPerToken)
        scale[0] = token_scale(p, token), scale[1] = token_scale(p, token + 8);
      const auto value = [&](int i, int e, const float2(&factor)[2]) {
        return acc[half][b * 32 + 4 * i + e] * scale[e / 2] * factor[e & 1].x + factor[e & 1].y;
      };
      if constexpr (!kIs16Bit<Output>) {
        float* y = static_cast<float*>(p.y);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int feature = block + i * 8 + lane % 4 * 2;
          float2 factor[2];
          load_factors(b * 64 + i * 8 + lane % 4 * 2, factor);
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if (token + e / 2 * 8 < p.m && feature + (e & 1) < p.n)
              y[(token + e / 2 * 8) * p.y_stride + feature + (e & 1)] = value(i, e, factor);
        }
      } else {
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
          u32 packed[4];
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const int i = 2 * pair + h;
            float2 factor[2];
            load_factors(b * 64 + i * 8 + lane % 4 * 2, factor);
            packed[2 * h] = Output::pack(value(i, 0, factor), value(i, 1, factor));
            packed[2 * h + 1] = Output::pack(value(i, 2, factor), value(i, 3, factor));
          }
          // Matrix q: tokens 8*(q&1).., features 8*(q>>1).. of the pair.
          const int row = (lane / 8 & 1) * 8 + lane % 8;
          const int part_of_row = 2 * pair + lane / 16;
          store_matrix_x4(scratch + row * 128 + (part_of_row ^ row % 8) * 16, packed[0], packed[1], packed[2],
                          packed[3]);
        }
        __syncwarp();
        const int feature = block + lane % 8 * 8;
        const bool whole = p.aligned && feature + 8 <= p.n;
#pragma unroll
        for (int first = 0; first < 16; first += 4) {
          const int row = first + lane / 8;
          const u32 from = scratch + row * 128 + (lane % 8 ^ row % 8) * 16;
          if (token0 + row >= p.m || feature >= p.n) continue;
          u16* to = static_cast<u16*>(p.y) + (token0 + row) * p.y_stride + feature;
          if (whole) {
            u32 v[4];
            load_shared(from, v);
            *reinterpret_cast<uint4*>(to) = make_uint4(v[0], v[1], v[2], v[3]);
          } else {
            const int count = p.n - feature < 8 ? p.n - feature : 8;
#pragma unroll 1
            for (int e = 0; e < count; ++e) to[e] = load_shared_16(from + e * 2);
          }
        }
        __syncwarp();
      }
    }
    group_barrier(2 + group);
  };

  int stage = 0;
  u32 parity = 0;
  grid_dependency_wait();
  for (int index = first_tile; index < tiles; index += tile_step) {
    const Tile tile = my_tile(index);
#pragma unroll
    for (int i = 0; i < kFeatures / 2; ++i) {
      part[i] = 0;
#pragma unroll
      for (int half = 0; half < kHalves; ++half) acc[half][i] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kFactors; ++i)
      my_factors[i] = feature_factor(p, tile.feature * kFeatures + i * 128 + thread_id_again() % 128);
    for (int slab = 0; slab < slabs; ++slab) {
      barrier_wait(full + stage * 8, parity);
#pragma unroll
      for (int run = 0; run < 4 / kRun; ++run)
#pragma unroll
        for (int half = 0; half < kHalves; ++half) {
          const bool first = run == 0 && half == 0;
          if (!first || slab > 0) {
            wgmma_wait<0>();
            if (first) release(stage_before(stage));
            promote((half + kHalves - 1) % kHalves);
          }
          wgmma_fence();
#pragma unroll
          for (int i = 0; i < kRun; ++i) {
            const int step = run * kRun + i;
            const u64 a = swizzled_operand(
                my_tokens + (stage * Layout::kStageBytes + half * kHalfTokens * 128) / 16 + step * 2);
            const u64 b = swizzled_operand(my_weights + stage * (Layout::kWeightStage / 16) + step * 2);
            if (i == 0)
              Config::mma_first(part, a, b, 0);
            else
              Config::mma(part, a, b);
          }
          wgmma_commit();
          load_scales(stage, kTokenGroups ? run * kRun * 32 / TokenScale::kColumns : 0, half);
        }
      if (++stage == kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
    wgmma_wait<0>();
    release(stage_before(stage));
    promote(kHalves - 1);
    store(tile);
  }
}

}  // namespace sabrewing::device
