#pragma once
// Quantized GEMM on Hopper: any weight, 16- and 8-bit activations. The weight is WGMMA's first operand (64
// features), the tokens are its N; so a tile wastes at most 7 tokens. A weight that is decoded is an operand
// in registers; one that is the operand already (kIsOperand) is read from shared memory like the tokens. With
// kTokensFirst the operands change places: wgmma_tokens_first.cuh.
//
// Four producer warps fill a ring of stages in turn, each stage kDepth slabs deep in K: bulk copies of packed
// slabs, TMA boxes of activations; one warp alone would be the bottleneck of small tiles. Each consumer
// warpgroup owns kBlocks blocks of 64 features. It decodes the fragments of the next two steps while the
// WGMMAs of the last two run. With kSplit > 1 the blocks of a cluster take consecutive ranges of K and add
// their FP32 sums over distributed shared memory in rank order.
//
// With kShare > 1 the blocks of a cluster take neighbouring features of the same tokens: each loads a part of
// the tokens for all of them, and a stage is free when every block has read it.
//
// Config: kTokens (8, or a multiple of 16 up to 256), kHalves, kBlocks, kGroups (consumer warpgroups),
// kStages, kDepth, kTokensFirst, kEveryLaneArrives, kSplit, kShare, kPromote, Decoder, TokenScale, Output,
// Sum (float or int), and mma(sums, a, descriptor): one WGMMA of 64 x kTokens / kHalves x 32 bytes, with `a`
// four registers or a descriptor; mma_first(.., keep) replaces the sums unless it keeps them.
//
// Scales of tokens per group of columns lie behind the stages' weights: the warp that fills a stage loads
// them while it waits for the stage and arrives on the stage's barrier once more when it has stored them.
// Scales of a weight's blocks are multiplied into them there, where a tile's rows have one. Two warpgroups
// with decoded weights whose sums are scaled every 128 bytes of K take turns at the tensor core.
//
// Scales of FP32 sums (groups of the weight, of the activations) and sums that must be promoted need a second
// set of accumulators: a run of columns is summed there, and added while the next run is decoded. With
// kHalves of 2 that set is of half of the tokens, whose runs alternate with those of the other half;
// fragments are decoded once for both.

#include "wgmma_layout.cuh"

namespace sabrewing::device {

template <typename Config, typename TileOf>
SW_DEVICE void consume_features_first(const GemmParams& p, u32 base, u32 full, u32 empty, int slabs,
                                      int tiles, int first_tile, int tile_step, const TileOf& my_tile);
template <typename Config, typename TileOf>
SW_DEVICE void consume_tokens_first(const GemmParams& p, u32 base, u32 full, u32 empty, int slabs, int tiles,
                                    int first_tile, int tile_step, const TileOf& my_tile);

template <typename Config>
SW_DEVICE void gemm_wgmma(const TensorMap& x_map, const GemmParams& p) {
  using Layout = WgmmaLayout<Config>;
  using Decoder = typename Config::Decoder;
  using Output = typename Config::Output;
  using TokenScale = typename Config::TokenScale;
  constexpr int kTokens = Config::kTokens;
  constexpr int kStages = Config::kStages;
  constexpr int kSplit = Config::kSplit;
  constexpr int kShare = Config::kShare;
  static_assert(kSplit == 1 || kShare == 1);
  extern __shared__ __align__(1024) u8 shared[];
  const u32 base = shared_address(shared);
  const u32 full = base + Layout::kBarrierOffset;
  const u32 empty = full + kStages * 8;
  const int warp = warp_id();
  const int lane = lane_id();

  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      barrier_init(full + s * 8, 1 + (TokenScale::kColumns == 0 ? 0 : Config::kEveryLaneArrives ? 32 : 1));
      barrier_init(empty + s * 8, (Config::kEveryLaneArrives ? 128 : 4) * Config::kGroups * kShare);
    }
    barrier_init_fence();
  }
  if constexpr (kShare > 1) {  // other blocks signal these barriers
    cluster_arrive();
    cluster_wait();
  } else {
    __syncthreads();
  }
  grid_launch_dependents();

  const int rank = kSplit > 1 ? static_cast<int>(cluster_rank()) : 0;
  const int place = kShare > 1 ? static_cast<int>(cluster_rank()) : 0;  // among the features
  // From here on, a slab is what a stage holds.
  const int all_slabs = p.slabs / Config::kDepth;
  const int first_slab = kSplit > 1 ? all_slabs * rank / kSplit : 0;
  const int slabs = kSplit > 1 ? all_slabs * (rank + 1) / kSplit - first_slab : all_slabs;
  __builtin_assume(slabs > 0);
  const int tiles = p.token_tiles * p.feature_tiles;
  constexpr int kCluster = kSplit * kShare;
  const int tile_step = static_cast<int>(gridDim.x) / kCluster;
  const int first_tile = static_cast<int>(blockIdx.x) / kCluster;
  // Tiles of the launch are those of a cluster.
  const auto my_tile = [&](int index) {
    Tile tile = tile_at(p, index);
    tile.feature = tile.feature * kShare + place;
    return tile;
  };

  if (warp >= 4 * Config::kGroups) {
    if constexpr (Layout::kMovesRegisters) give_registers<Layout::kProducerRegisters>();
    const u64 weight_policy = p.stream_weights ? evict_first_policy() : evict_normal_policy();
    const u64 token_policy = evict_normal_policy();
    const i64 row_bytes = static_cast<i64>(p.slabs) * kSlabBytes<Decoder>;
    const auto load_weights = [&](const Tile& tile, int slab, int stage) {
      const int block0 = tile.feature * Layout::kRowBlocks;
      int blocks = p.row_blocks - block0 < Layout::kRowBlocks ? p.row_blocks - block0 : Layout::kRowBlocks;
      if (kShare > 1 && blocks < 0) blocks = 0;
      const u32 to = base + Layout::kWeightOffset + stage * Layout::kWeightStage;
      const u8* from =
          p.weight + block0 * row_bytes + static_cast<u32>(first_slab + slab) * Layout::kBlockSource;
      constexpr int kCopyBytes = Layout::kCopyBytes;
      barrier_expect(full + stage * 8, p.box_bytes + blocks * Layout::kBlockCopies * kCopyBytes);
#pragma unroll
      for (int b = 0; b < Layout::kRowBlocks; ++b)
        if (b < blocks) {
#pragma unroll
          for (int c = 0; c < Layout::kBlockCopies; ++c)
            copy_bulk(to + b * Layout::kBlockBytes + c * Layout::kSlotBytes,
                      from + b * row_bytes + c * kCopyBytes, kCopyBytes, full + stage * 8, weight_policy);
        }
    };
    const auto load_tokens = [&](const Tile& tile, int slab, int stage) {
#pragma unroll
      for (int box = 0; box < Layout::kBoxes; ++box) {
        const u32 to = base + stage * Layout::kStageBytes + box * Layout::kTokenBytes;
        const int column = ((first_slab + slab) * Layout::kBoxes + box) * Layout::kBoxColumns;
        if constexpr (kShare == 1)
          copy_tensor_2d(to, &x_map, column, tile.token * kTokens, full + stage * 8, token_policy);
        else
          copy_tensor_2d(to + place * (Layout::kTokenBytes / kShare), &x_map, column,
                         tile.token * kTokens + place * (kTokens / kShare), full + stage * 8, token_policy,
                         (1u << kShare) - 1);
      }
    };
    constexpr int kScaleGroups = Layout::kScaleGroups;
    // Of the rows of the tile, or this lane's block of them, and group `group` of a stage's columns.
    const auto block_scale = [&](const Tile& tile, int slab, int group) {
      if constexpr (Layout::kSameColumns) {
        constexpr int kSlabGroups = Decoder::kSlabK / TokenScale::kColumns;
        const int inside = Layout::kStoresBlockScales ? lane : 0;
        const int block = tile.feature * Layout::kRowBlocks + inside;
        if (inside >= Layout::kRowBlocks || block >= p.row_blocks) return 1.0f;
        u32 scales[Decoder::kScaleWords];
        const u8* from = p.weight + block * row_bytes +
                         static_cast<u32>(first_slab + slab) * Layout::kBlockSource +
                         group / kSlabGroups * kSlabBytes<Decoder> + kSlabWeightBytes<Decoder>;
#pragma unroll
        for (int i = 0; i < Decoder::kScaleWords; ++i) scales[i] = reinterpret_cast<const u32*>(from)[i];
        return Decoder::scale(scales, 0, group % kSlabGroups);
      } else {
        return 1.0f;
      }
    };
    constexpr int kLoads = (kTokens + 31) / 32;
    u32 scale_codes[kScaleGroups > 0 ? kScaleGroups : 1][kLoads];
    float block_scales[kScaleGroups > 0 ? kScaleGroups : 1];
    const auto load_scales = [&](const Tile& tile, int slab) {
      if constexpr (kScaleGroups > 0) {
#pragma unroll
        for (int g = 0; g < kScaleGroups; ++g) {
          block_scales[g] = block_scale(tile, slab, g);
#pragma unroll
          for (int i = 0; i < kLoads; ++i)
            if (kTokens % 32 == 0 || i * 32 + lane < kTokens)
              scale_codes[g][i] =
                  TokenScale::code(p, tile.token * kTokens + i * 32 + lane,
                                   ((first_slab + slab) * kScaleGroups + g) * TokenScale::kColumns);
        }
      }
    };
    const auto store_scales = [&](int stage) {
      if constexpr (kScaleGroups > 0) {
        const u32 to = base + Layout::kScaleOffset + stage * Layout::kScaleStage + lane * 4;
#pragma unroll
        for (int g = 0; g < kScaleGroups; ++g) {
          const u32 to_group = to + g * Layout::kGroupScales * 4;
          const float factor = Layout::kJoinsScales ? block_scales[g] : 1.0f;
#pragma unroll
          for (int i = 0; i < kLoads; ++i)
            if (kTokens % 32 == 0 || i * 32 + lane < kTokens)
              store_shared(to_group + i * 128, TokenScale::value(scale_codes[g][i]) * factor);
          if (Layout::kStoresBlockScales && lane < Layout::kRowBlocks)
            store_shared(to_group + kTokens * 4, block_scales[g]);
        }
        __syncwarp();
        if (Config::kEveryLaneArrives || lane == 0) barrier_arrive(full + stage * 8);
        __syncwarp();
      }
    };
    // Iteration i of all tiles' slabs uses stage i % kStages; a warp takes every kProducerWarps-th. Weights
    // never depend on the kernel before this one; activations may.
    constexpr int kProducerWarps = Layout::kProducerWarps;
    const int first = warp - 4 * Config::kGroups;
    const int ahead = slabs < kStages ? slabs : kStages;
    int index = first_tile;
    int tile_index = first_tile;
    Tile tile = my_tile(first_tile);
    const int last = first < kProducerWarps ? ahead : 0;
    for (int i = first; i < last; i += kProducerWarps) load_weights(tile, i, i);
    grid_dependency_wait();
    for (int i = first; i < last; i += kProducerWarps) load_tokens(tile, i, i);
    for (int i = first; i < last; i += kProducerWarps) {
      load_scales(tile, i);
      store_scales(i);
    }
    u32 i = first;
    int slab = first;
    while (first < kProducerWarps) {
      while (slab >= slabs) {
        slab -= slabs;
        index += tile_step;
      }
      if (index >= tiles) break;
      if (static_cast<int>(i) >= ahead) {
        const int stage = static_cast<int>(i % kStages);
        if (index != tile_index) {
          tile_index = index;
          tile = my_tile(index);
        }
        load_scales(tile, slab);
        barrier_wait(empty + stage * 8, (i / kStages & 1) ^ 1);
        load_weights(tile, slab, stage);
        load_tokens(tile, slab, stage);
        store_scales(stage);
      }
      i += kProducerWarps;
      slab += kProducerWarps;
    }
    if constexpr (kCluster > 1) {
      cluster_arrive();
      cluster_wait();
    }
    if constexpr (kSplit > 1) {
      cluster_arrive();
      cluster_wait();
    }
    return;
  }

  if constexpr (Layout::kMovesRegisters) take_registers<Layout::kConsumerRegisters>();
  if constexpr (Config::kTokensFirst)
    consume_tokens_first<Config>(p, base, full, empty, slabs, tiles, first_tile, tile_step, my_tile);
  else
    consume_features_first<Config>(p, base, full, empty, slabs, tiles, first_tile, tile_step, my_tile);
  if constexpr (kShare > 1) {  // no block leaves while others signal its barriers
    cluster_arrive();
    cluster_wait();
  }
}

// Consumer warpgroups whose operand A is 64 features each.
template <typename Config, typename TileOf>
SW_DEVICE void consume_features_first(const GemmParams& p, u32 base, u32 full, u32 empty, int slabs,
                                      int tiles, int first_tile, int tile_step, const TileOf& my_tile) {
  using Layout = WgmmaLayout<Config>;
  using Decoder = typename Config::Decoder;
  using Output = typename Config::Output;
  using TokenScale = typename Config::TokenScale;
  constexpr int kTokens = Config::kTokens;
  constexpr int kBlocks = Config::kBlocks;
  constexpr int kStages = Config::kStages;
  constexpr int kSplit = Config::kSplit;
  constexpr int kShare = Config::kShare;
  extern __shared__ __align__(1024) u8 shared[];
  const int warp = warp_id();
  const int lane = lane_id();
  const int group = warp / 4;
  const int group_warp = warp & 3;
  const u32 my_words = base + Layout::kWeightOffset + group * kBlocks * Layout::kBlockBytes +
                       group_warp * kWarpBytes<Decoder> + lane * 16;
  const u32 my_operands = operand_low(base + Layout::kWeightOffset + group * kBlocks * Layout::kBlockBytes);
  const u32 my_scales = base + Layout::kWeightOffset + group * kBlocks * Layout::kBlockBytes +
                        kSlabWeightBytes<Decoder> + (group_warp * 8 + lane / 4) * 4 * Decoder::kScaleWords;
  const u32 my_token_scales = base + Layout::kScaleOffset + lane % 4 * 8;
  constexpr int kScaleWords = Decoder::kScaleWords > 0 ? Decoder::kScaleWords : 1;
  constexpr int kBoxBlocks = Layout::kBoxColumns / 64;
  constexpr int kWords = kBoxBlocks * Decoder::kWords;
  // A box is two blocks of 64 columns, and a batch decodes one of them; else a box is a block.
  constexpr bool kTwoBlocks = kBoxBlocks == 2;
  constexpr bool kFromShared = kIsOperand<Decoder>;
  static_assert(!kFromShared || Layout::kSlabBoxes == 1);
  using Operand = Select<kFromShared, u64, u32[4]>;  // of one instruction: a descriptor, or a fragment
  constexpr int kStep = 32 / Decoder::kBytes;        // columns of an instruction
  using Sum = typename Config::Sum;
  constexpr bool kPromotes = Layout::kPromotes;
  constexpr bool kRowScale = Decoder::kScaleAfter && !Layout::kJoinsScales;
  constexpr bool kIntegers = !kPromotes && !kIsFloat<Sum>;
  constexpr int kStageSteps = 4 * Layout::kBoxes;
  constexpr int kRunColumns = run_columns<Config>();
  constexpr int kRun = kPromotes && kRunColumns / kStep < kStageSteps ? kRunColumns / kStep : kStageSteps;
  constexpr int kRunStages = kPromotes ? kRunColumns / kStep / kStageSteps : 0;
  constexpr bool kLongRuns = kRunStages > 1;
  constexpr int kLongStages = kLongRuns ? kRunStages : 1;
  static_assert(!kLongRuns || TokenScale::kColumns == 0);
  constexpr int kHalves = Config::kHalves;
  // Two warpgroups with decoded weights whose runs are one box take turns: one's run multiplies while the
  // other adds its last one and decodes. The tensor core shares itself out between both, so that left alone
  // they would end, and wait, together.
  constexpr bool kTakesTurns = !kFromShared && kHalves == 1 && TokenScale::kColumns > 0 && kRun == 4 &&
                               Config::kGroups == 2 && kTokens >= 64;
  constexpr int kBatch = kFromShared && kRun < 4 ? kRun : kFromShared || kTakesTurns ? 4 : 2;
  constexpr bool kShortRuns = kPromotes && !kLongRuns;
  // A run is added when the next one begins.
  constexpr bool kAddsLater = kFromShared || kRun > 1;
  // Registers do not hold the scales of so many tokens.
  constexpr bool kReadsScalesLate = (kFromShared || kHalves > 1) && kTokens > 128;

  float acc[kBlocks][kTokens / 2] = {};
  static_assert(kHalves == 1 || (kFromShared && kShortRuns && kRun <= 4) ||
                (kTwoBlocks && kShortRuns && kRun == 4 && !Decoder::kZeroAfter));
  constexpr int kRunTokens = kTokens / kHalves;
  Sum part[kBlocks][kRunTokens / 2];
  u32 words[kBlocks][kWords];
  u32 scales[kBlocks][kScaleWords];
  u32 next_words[kBlocks][kWords];
  u32 next_scales[kBlocks][kScaleWords];
  u32 fragment[2][kBatch][kBlocks][4];
  float2 token_scales[TokenScale::kColumns > 0 ? kRunTokens / 8 : 1];  // two tokens' of each eight
  // Sums of the activations alone, for zero points.
  Sum token_part[Decoder::kZeroAfter ? kTokens / 2 : 1];

  // The packed columns of block `block` of a box, to the words of that block.
  const auto load_words = [&](int stage, int box, int block, u32(&w)[kBlocks][kWords]) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const u32 from = my_words + stage * Layout::kWeightStage + b * Layout::kBlockBytes +
                       box / Layout::kSlabBoxes * Layout::kSlotBytes +
                       (box % Layout::kSlabBoxes * kBoxBlocks + block) * 4 * kWarpBytes<Decoder>;
      u32* block_words = w[b] + block * Decoder::kWords;
      if constexpr (Decoder::kWords % 4 == 0) {
#pragma unroll
        for (int i = 0; i < Decoder::kWords / 4; ++i) load_shared(from + i * 512, block_words + 4 * i);
      } else {
        for_each_piece(Decoder::kWords, [&](int count, int first) {
          const u32 piece = from + first * 128 - lane * (16 - count * 4);
          u32* to = block_words + first;
          if (count == 4)
            load_shared(piece, to);
          else if (count == 2)
            load_shared_pair(piece, to);
          else
            *to = load_shared(piece);
        });
      }
    }
  };
  const auto load_scales = [&](int stage, int box, u32(&s)[kBlocks][kScaleWords]) {
    constexpr int kLoaded = Layout::kJoinsScales ? 0 : Decoder::kScaleWords;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b)
#pragma unroll
      for (int i = 0; i < kLoaded; ++i)
        s[b][i] = load_shared(my_scales + stage * Layout::kWeightStage + b * Layout::kBlockBytes +
                              box / Layout::kSlabBoxes * Layout::kSlotBytes + i * 4);
  };

  // The fragments of a batch, complete before the instructions that read them begin.
  const auto decode_batch = [&](u32(&w)[kBlocks][kWords], u32(&s)[kBlocks][kScaleWords], int q,
                                u32(&to)[kBatch][kBlocks][4]) {
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) Decoder::decode(w[b], s[b], q * kBatch + i, to[i][b]);
    if constexpr (kPromotes || Decoder::kBytes == 1) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i)
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) pin_registers(to[i][b]);
    }
  };

  // Turns of the two warpgroups; the first has the first one.
  const auto wait_for_turn = [](int of) { asm volatile("bar.sync %0, 256;" ::"r"(4 + of) : "memory"); };
  const auto give_turn = [](int to) { asm volatile("bar.arrive %0, 256;" ::"r"(4 + to) : "memory"); };

  const auto stage_before = [](int s) { return s == 0 ? kStages - 1 : s - 1; };
  // One arrival stands for all lanes' reads of the stage, unless a race detector is to follow them.
  const auto release = [&](int stage) {
    __syncwarp();
    if constexpr (kShare > 1) {
      if (lane < kShare) barrier_arrive_at(empty + stage * 8, lane);
    } else {
      if (Config::kEveryLaneArrives || lane == 0) barrier_arrive(empty + stage * 8);
    }
  };

  const auto first_row = [&](const Tile& tile, int b, int of_warp) {
    return tile.feature * Layout::kRows + (group * kBlocks + b) * 64 + of_warp * 16;
  };
  // What a tile's end reads of global memory, to the L1 cache.
  const auto prefetch_scales = [&](const Tile& tile) {
    const int token = tile.token * kTokens + lane * 32;
    if (TokenScale::kPerToken && lane * 32 < kTokens && token < p.m)
      prefetch_l1(static_cast<const float*>(p.x_scale) + token);
    const float* factors = lane < 24 ? p.channel_scale : p.bias;
    const int row = first_row(tile, lane & 7, group_warp);
    if (lane >= 16 && (lane & 7) < kBlocks && row < p.n && factors != nullptr) prefetch_l1(factors + row);
  };
  // Scales of the tokens of piece i that this lane holds: 2 of each 8.
  struct PieceScales {
    float of[Layout::kPieceTokens / 8][2];
  };
  const auto load_piece_scales = [&](int thread, int token0) {
    PieceScales scales;
#pragma unroll
    for (int h = 0; h < Layout::kPieceTokens / 8; ++h)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        scales.of[h][e] = TokenScale::kPerToken ? token_scale(p, token0 + h * 8 + thread % 4 * 2 + e) : 1.0f;
    return scales;
  };
  // The output of row g (`e` below 2) or g+8 and token e & 1 of the 8 tokens h of piece i.
  const auto value = [&](int b, int i, int h, int e, const PieceScales& scales, const float2& low,
                         const float2& high) {
    const float2& factor = e < 2 ? low : high;
    float sum = acc[b][(i * (Layout::kPieceTokens / 8) + h) * 4 + e];
    if constexpr (TokenScale::kPerToken) sum *= scales.of[h][e & 1];
    return sum * factor.x + factor.y;
  };
  // Transposes piece i: rows of the scratch are tokens of 64 features, with 16-byte parts exchanged so that
  // neither writing nor reading conflicts.
  const auto stage_piece = [&](int thread, int i, int b, u32 scratch, int token0, const float2& low,
                               const float2& high) {
    if constexpr (kIs16Bit<Output>) {
      const PieceScales scales = load_piece_scales(thread, token0);
      u32 packed[4];
#pragma unroll
      for (int h = 0; h < Layout::kPieceTokens / 8; ++h) {
        packed[2 * h] =
            Output::pack(value(b, i, h, 0, scales, low, high), value(b, i, h, 1, scales, low, high));
        packed[2 * h + 1] =
            Output::pack(value(b, i, h, 2, scales, low, high), value(b, i, h, 3, scales, low, high));
      }
      // Matrix q: features 8*(q&1).., tokens 8*(q>>1)...
      const int lane = thread % 32;
      const u32 part = (thread / 32 * 2 + (lane / 8 & 1)) ^ (lane % 8);
      if constexpr (Layout::kPieceTokens == 16)
        store_matrix_trans_x4(scratch + (lane / 16 * 8 + lane % 8) * 128 + part * 16, packed[0], packed[1],
                              packed[2], packed[3]);
      else
        store_matrix_trans_x2(scratch + lane % 8 * 128 + part * 16, packed[0], packed[1]);
    }
  };
  const auto store = [&](const Tile& tile) {
    // Of its warpgroup; read again, so that nothing made of it takes registers in the loop.
    const int thread = thread_id_again() % 128;
    const int lane = thread % 32;
    const int token0 = tile.token * kTokens;
    const u32 scratch = base + Layout::kScratchOffset + group * Layout::kChunk * Layout::kPieceTokens * 128;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const int row0 = first_row(tile, b, thread / 32);
      const float2 low = feature_factor(p, row0 + lane / 4);
      const float2 high = feature_factor(p, row0 + lane / 4 + 8);
      if constexpr (!kIs16Bit<Output>) {
        float* y = static_cast<float*>(p.y);
        const int feature = row0 + lane / 4;
#pragma unroll
        for (int i = 0; i < Layout::kPieces; ++i) {
          const int first = token0 + i * Layout::kPieceTokens;
          const PieceScales scales = load_piece_scales(thread, first);
#pragma unroll
          for (int h = 0; h < Layout::kPieceTokens / 8; ++h)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const int token = first + h * 8 + lane % 4 * 2 + e;
              if (token >= p.m) continue;
              if (feature < p.n) y[token * p.y_stride + feature] = value(b, i, h, e, scales, low, high);
              if (feature + 8 < p.n)
                y[token * p.y_stride + feature + 8] = value(b, i, h, 2 + e, scales, low, high);
            }
        }
      } else {
        constexpr int kChunkTokens = Layout::kChunk * Layout::kPieceTokens;
        const int feature = first_row(tile, b, 0) + thread % 8 * 8;
        const bool whole = p.aligned && feature + 8 <= p.n;
        u16* y = static_cast<u16*>(p.y) + feature;
        const u32 from = scratch + thread / 8 * 128 + (thread % 8 ^ thread / 8 % 8) * 16;
#pragma unroll
        for (int first = 0; first < Layout::kPieces; first += Layout::kChunk) {
          const int chunk_token = token0 + first * Layout::kPieceTokens;
          if (chunk_token >= p.m) break;
          group_barrier(2 + group);
#pragma unroll
          for (int c = 0; c < Layout::kChunk; ++c)
            if (first + c < Layout::kPieces)
              stage_piece(thread, first + c, b, scratch + c * Layout::kPieceTokens * 128,
                          chunk_token + c * Layout::kPieceTokens, low, high);
          group_barrier(2 + group);
#pragma unroll
          for (int row = 0; row < kChunkTokens; row += 16) {
            const int inside = row + thread / 8;
            const int token = chunk_token + inside;
            if (inside >= kChunkTokens || first * Layout::kPieceTokens + inside >= kTokens || token >= p.m ||
                feature >= p.n)
              continue;
            u16* to = y + token * p.y_stride;
            if (whole) {
              u32 v[4];
              load_shared(from + row * 128, v);
              *reinterpret_cast<uint4*>(to) = make_uint4(v[0], v[1], v[2], v[3]);
            } else {
              const int count = p.n - feature < 8 ? p.n - feature : 8;
#pragma unroll 1
              for (int e = 0; e < count; ++e) to[e] = load_shared_16(from + row * 128 + e * 2);
            }
          }
        }
      }
    }
  };

  int stage = 0;
  u32 parity = 0;
  grid_dependency_wait();
  if (kTakesTurns && group == 1 && first_tile < tiles) give_turn(0);
  for (int index = first_tile; index < tiles; index += tile_step) {
    const Tile tile = my_tile(index);
#pragma unroll
    for (int b = 0; b < kBlocks; ++b)
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i) {
        acc[b][i] = 0.0f;
        if (i < kRunTokens / 2) part[b][i] = 0;
        if constexpr (Decoder::kZeroAfter) token_part[i] = 0;
      }
    // Scales of the run in `part`; those of its tokens before the run's last stage is released.
    float row_scale[kBlocks][2] = {};
    float row_zero[2] = {};
    u32 run_scales = my_token_scales + stage * Layout::kScaleStage;
    const auto read_token_scales = [&] {
      if constexpr (TokenScale::kColumns > 0 && !kReadsScalesLate) {
#pragma unroll
        for (int i = 0; i < kRunTokens / 8; ++i) token_scales[i] = load_shared_floats(run_scales + i * 32);
      }
    };
    const auto promote = [&](int half) {
#pragma unroll
      for (int i = 0; i < kRunTokens / 8; ++i) {
        float even = 1.0f, odd = 1.0f;
        if constexpr (TokenScale::kColumns > 0) {
          const float2 pair = kReadsScalesLate ? load_shared_floats(run_scales + i * 32) : token_scales[i];
          even = pair.x, odd = pair.y;
        }
#pragma unroll
        for (int b = 0; b < kBlocks; ++b)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const float token = e & 1 ? odd : even;
            const float scale = kRowScale ? row_scale[b][Decoder::kBlockScale ? 0 : e / 2] * token : token;
            acc[b][half * (kRunTokens / 2) + 4 * i + e] += static_cast<float>(part[b][4 * i + e]) * scale;
            if constexpr (Decoder::kZeroAfter)
              acc[b][4 * i + e] += static_cast<float>(token_part[4 * i + e]) * row_zero[e / 2];
          }
      }
    };

    prefetch_scales(tile);
    constexpr bool kAlternates = Layout::kBoxes % 2 == 0;
    constexpr int kFirstBlocks = kHalves > 1 ? 1 : kBoxBlocks;  // of a box, loaded before it
    if constexpr (!kFromShared) {
      barrier_wait(full + stage * 8, parity);
#pragma unroll
      for (int block = 0; block < kFirstBlocks; ++block) load_words(stage, 0, block, words);
      load_scales(stage, 0, scales);
      if constexpr (kTakesTurns && kAlternates) decode_batch(words, scales, 0, fragment[0]);
    }
    // Without decoding between, warpgroups whose runs end together leave the tensor core idle together.
    const int offset = kFromShared ? group * (kLongStages / 2) : 0;
    for (int slab = 0; slab < slabs; ++slab) {
      if constexpr (kFromShared) barrier_wait(full + stage * 8, parity);
      const bool goes_on = kLongRuns && slab > 0 && (slab + offset) % kLongStages != 0;
      if (kLongRuns && slab > 0 && !goes_on) {
        wgmma_wait<0>();
        promote(0);
      }
      const u32 tokens = operand_low(base + stage * Layout::kStageBytes);
      const int next_stage = stage + 1 == kStages ? 0 : stage + 1;
      const u32 next_parity = stage + 1 == kStages ? parity ^ 1 : parity;
#pragma unroll
      for (int box = 0; box < Layout::kBoxes; ++box) {
        const bool has_next = box + 1 < Layout::kBoxes || slab + 1 < slabs;
        const int from_stage = box + 1 < Layout::kBoxes ? stage : next_stage;
        const int from_box = box + 1 < Layout::kBoxes ? box + 1 : 0;
        // Before step `step` of the box, where it starts a run.
        const auto start_run = [&](int step, int half) {
          // The first run of a tile has none before it.
          if (kAddsLater && (box > 0 || step > 0 || half > 0 || slab > 0)) {
            read_token_scales();
            wgmma_wait<0>();
            promote((half + kHalves - 1) % kHalves);
          }
          if constexpr (TokenScale::kColumns > 0) {
            const int column = box * Layout::kBoxColumns + step * kStep;
            run_scales = my_token_scales + stage * Layout::kScaleStage +
                         (column / TokenScale::kColumns * kTokens + half * kRunTokens) * 4;
          }
          if constexpr (kRowScale) {
            const int segment = (box % Layout::kSlabBoxes * 4 + step) * kStep / Decoder::kSegment;
#pragma unroll
            for (int b = 0; b < kBlocks; ++b) {
              row_scale[b][0] = Decoder::scale(scales[b], 0, segment);
              row_scale[b][1] = Decoder::scale(scales[b], 1, segment);
            }
            if constexpr (Decoder::kZeroAfter) {
              row_zero[0] = Decoder::zero(scales[0], 0, segment);
              row_zero[1] = Decoder::zero(scales[0], 1, segment);
            }
          }
        };
        // Step `step` of the box; `first` replaces the sums unless they are kept.
        const auto multiply = [&](int step, int half, Operand(&a)[kBlocks], bool first, int keeps) {
#pragma unroll
          for (int b = 0; b < kBlocks; ++b) {
            const u64 operand = swizzled_operand(tokens + box * (Layout::kTokenBytes >> 4) +
                                                 half * (kRunTokens * 128 >> 4) + step * 2);
            if constexpr (!kPromotes && !kIntegers)
              Config::mma(acc[b], a[b], operand);
            else if (first)
              Config::mma_first(part[b], a[b], operand, keeps);
            else
              Config::mma(part[b], a[b], operand);
            if constexpr (Decoder::kZeroAfter) {
              constexpr u32 kOnes[4] = {Decoder::Operand::kOne, Decoder::Operand::kOne,
                                        Decoder::Operand::kOne, Decoder::Operand::kOne};
              if (first)
                Config::mma_first(token_part, kOnes, operand, keeps);
              else
                Config::mma(token_part, kOnes, operand);
            }
          }
        };
        if constexpr (kFromShared) {
          load_scales(stage, box, scales);
#pragma unroll
          for (int part_of_box = 0; part_of_box < 4 / kBatch * kHalves; ++part_of_box) {
            const int q = part_of_box / kHalves, half = part_of_box % kHalves;
            constexpr int kRunBatches = kRun / kBatch;
            const bool starts_run = kPromotes && (box * (4 / kBatch) + q) % kRunBatches == 0;
            // Instructions of the stage before have ended when their sums are added, else behind the next.
            const bool leaves_stage = box == 0 && part_of_box == 0 && slab > 0;
            if (starts_run && kShortRuns) {
              start_run(q * kBatch, half);
              if (leaves_stage) release(stage_before(stage));
            }
            wgmma_fence();
#pragma unroll
            for (int i = 0; i < kBatch; ++i) {
              Operand a[kBlocks];
#pragma unroll
              for (int b = 0; b < kBlocks; ++b)
                a[b] = swizzled_operand(
                    my_operands +
                    (stage * Layout::kWeightStage + b * Layout::kBlockBytes + box * Layout::kSlotBytes) / 16 +
                    (q * kBatch + i) * 2);
              multiply(q * kBatch + i, half, a, starts_run && i == 0, goes_on);
            }
            wgmma_commit();
            if constexpr (!kShortRuns) wgmma_wait<1>();
            if (leaves_stage && !kShortRuns) release(stage_before(stage));
          }
        } else if constexpr (kTakesTurns) {
          // Fragments are decoded beside the products of those before. Where they cannot alternate between
          // two places, an odd number of boxes, they are decoded when those products have ended.
          u32(&a)[kBatch][kBlocks][4] = fragment[kAlternates ? box % 2 : 0];
          start_run(0, 0);
          if constexpr (!kAlternates) decode_batch(words, scales, 0, a);
          wait_for_turn(group);
          wgmma_fence();
#pragma unroll
          for (int i = 0; i < kBatch; ++i) {
            multiply(i, 0, a[i], i == 0, 0);
            if (i % 2 == 1) wgmma_commit();
          }
          if (box == 0 && slab > 0) release(stage_before(stage));
          if (has_next) {
            if (box + 1 == Layout::kBoxes) barrier_wait(full + next_stage * 8, next_parity);
#pragma unroll
            for (int block = 0; block < kBoxBlocks; ++block) load_words(from_stage, from_box, block, words);
            load_scales(from_stage, from_box, scales);
            if constexpr (kAlternates) decode_batch(words, scales, 0, fragment[(box + 1) % 2]);
          }
          // The other's products follow these without a gap when they are issued before these end.
          wgmma_wait<1>();
          if (group == 0 || has_next || index + tile_step < tiles) give_turn(1 - group);
        } else if constexpr (kHalves > 1) {
          // A batch is decoded once its registers' last instructions, of the second half, have ended; the
          // other warpgroup's products run beside that.
          wgmma_wait<1>();
          decode_batch(words, scales, 0, fragment[0]);
#pragma unroll
          for (int half = 0; half < kHalves; ++half) {
            start_run(0, half);
            if (half == 0 && box == 0 && slab > 0) release(stage_before(stage));
#pragma unroll
            for (int q = 0; q < 2; ++q) {
              if (half == 0 && q == 0) load_words(stage, box, 1, words);
              if (half == 0 && q == 1) decode_batch(words, scales, 1, fragment[1]);
              wgmma_fence();
#pragma unroll
              for (int i = 0; i < kBatch; ++i)
                multiply(q * kBatch + i, half, fragment[q][i], q == 0 && i == 0, 0);
              wgmma_commit();
            }
          }
          if (has_next) {
            if (box + 1 == Layout::kBoxes) barrier_wait(full + next_stage * 8, next_parity);
            load_words(from_stage, from_box, 0, words);
            load_scales(from_stage, from_box, scales);
          }
        } else {
#pragma unroll
          for (int q = 0; q < 4 / kBatch; ++q) {
            constexpr int kRunBatches = kRun > kBatch ? kRun / kBatch : 1;
            const bool starts_run = kPromotes && (box * (4 / kBatch) + q) % kRunBatches == 0;
            const int keeps = goes_on;
            u32(&a)[kBatch][kBlocks][4] = fragment[q & 1];
            decode_batch(words, scales, q, a);
            // Both blocks are decoded: their words give way to the next box's.
            if (kTwoBlocks && q == 1 && has_next) {
#pragma unroll
              for (int block = 0; block < kBoxBlocks; ++block) load_words(from_stage, from_box, block, words);
            }
            if (starts_run && kRun > 1 && !kLongRuns) start_run(q * kBatch, 0);
            wgmma_fence();
#pragma unroll
            for (int i = 0; i < kBatch; ++i) {
              multiply(q * kBatch + i, 0, a[i], starts_run && (i == 0 || kRun == 1), keeps);
              // A run of one instruction leaves nothing to overlap with but the other warpgroups.
              if constexpr (kRun == 1) {
                start_run(q * kBatch + i, 0);
                wgmma_commit();
                read_token_scales();
                wgmma_wait<0>();
                promote(0);
                wgmma_fence();
              }
            }
            wgmma_commit();
            wgmma_wait<1>();
            if (q == 0) {
              if (box == 0 && slab > 0) release(stage_before(stage));
              if (box + 1 == Layout::kBoxes && slab + 1 < slabs)
                barrier_wait(full + next_stage * 8, next_parity);
            }
            if (q == 0 && has_next) {
              if constexpr (!kTwoBlocks) load_words(from_stage, from_box, 0, next_words);
              load_scales(from_stage, from_box, next_scales);
            }
          }
#pragma unroll
          for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
            for (int i = 0; i < (kTwoBlocks ? 0 : kWords); ++i) words[b][i] = next_words[b][i];
#pragma unroll
            for (int i = 0; i < kScaleWords; ++i) scales[b][i] = next_scales[b][i];
          }
        }
      }
      stage = next_stage;
      parity = next_parity;
    }
    read_token_scales();
    wgmma_wait<0>();
    if constexpr (!kReadsScalesLate) release(stage_before(stage));
    if constexpr (kPromotes) {
      if constexpr (kAddsLater) promote(kHalves - 1);
    } else if constexpr (kIntegers) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b)
#pragma unroll
        for (int i = 0; i < kTokens / 2; ++i) acc[b][i] = static_cast<float>(part[b][i]);
    }
    if constexpr (kReadsScalesLate) release(stage_before(stage));
    if constexpr (kSplit > 1) {
      if constexpr (TokenScale::kPerToken) {
#pragma unroll
        for (int i = 0; i < kTokens / 2; ++i) {
          const float scale = token_scale(p, tile.token * kTokens + i / 4 * 8 + lane % 4 * 2 + (i & 1));
#pragma unroll
          for (int b = 0; b < kBlocks; ++b) acc[b][i] *= scale;
        }
      }
      const int token0 = tile.token * kTokens;
      const int feature0 = tile.feature * Layout::kRows;
      // Every stage has been read: the ring's memory holds the partial sums from here on.
      asm volatile("bar.sync 1, %0;" ::"n"(Layout::kConsumers) : "memory");
      constexpr int kStride = Layout::kRows + 4;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const int row = (group * kBlocks + b) * 64 + group_warp * 16 + lane / 4;
        float* to = reinterpret_cast<float*>(shared) + lane % 4 * 2 * kStride + row;
#pragma unroll
        for (int i = 0; i < kTokens / 8; ++i) {
          to[i * 8 * kStride] = acc[b][4 * i];
          to[(i * 8 + 1) * kStride] = acc[b][4 * i + 1];
          to[i * 8 * kStride + 8] = acc[b][4 * i + 2];
          to[(i * 8 + 1) * kStride + 8] = acc[b][4 * i + 3];
        }
      }
      cluster_arrive();
      cluster_wait();
      reduce_cluster<Output, kTokens, Layout::kRows, kSplit, Layout::kConsumers>(
          p, base, token0, feature0, static_cast<int>(threadIdx.x));
      cluster_arrive();
      cluster_wait();
    } else {
      store(tile);
    }
  }
}

}  // namespace sabrewing::device

#include "wgmma_tokens_first.cuh"
