#pragma once
// Shared memory, threads and tiles of gemm_wgmma.cuh.

#include "gemm.cuh"

namespace sabrewing::device {

struct alignas(128) TensorMap {
  u64 opaque[16];
};

template <typename Config>
struct WgmmaLayout {
  using Decoder = typename Config::Decoder;
  static constexpr int kRowBlocks = Config::kBlocks * (Config::kTokensFirst ? 1 : Config::kGroups);
  static constexpr int kRows = 64 * kRowBlocks;
  static constexpr bool kPromotes = run_columns<Config>() > 0;
  static constexpr int kConsumers = 128 * Config::kGroups;
  // Large tiles need more registers than a thread gets when they are shared out evenly.
  static constexpr bool kMovesRegisters =
      Config::kGroups == 2 &&
      (kPromotes ? Config::kTokens * Config::kBlocks >= 80
                 : Config::kTokens * Config::kBlocks + 48 * (Config::kBlocks - 1) > 192);
  // Of the 168 that each of three warpgroups begins with; staging scales of tokens takes more than copying.
  static constexpr int kProducerRegisters = Config::TokenScale::kColumns > 0 ? 40 : 24;
  static constexpr int kConsumerRegisters = Config::TokenScale::kColumns > 0 ? 232 : 240;
  static constexpr int kThreads = kConsumers + 128;
  // More than stages would let a warp mistake a stage's release for the one before it.
  static constexpr int kProducerWarps = Config::kStages < 4 ? Config::kStages : 4;
  static constexpr int kTokenBytes = Config::kTokens * 128;  // a box of 128 bytes along K
  static constexpr int kBoxColumns = 128 / Decoder::kBytes;
  static constexpr int kSlabBoxes = Decoder::kSlabK / kBoxColumns;
  static constexpr int kBoxes = kSlabBoxes * Config::kDepth;
  // Of 64 features of a stage in memory, where they lie together, and in shared memory, where operands begin
  // at multiples of 1024.
  static constexpr int kBlockSource = Config::kDepth * kSlabBytes<Decoder>;
  static constexpr int kSlotBytes = Config::kTokensFirst  ? kSlabWeightBytes<Decoder>
                                    : kIsOperand<Decoder> ? (kSlabBytes<Decoder> + 1023) / 1024 * 1024
                                                          : kSlabBytes<Decoder>;
  static constexpr int kBlockBytes = Config::kDepth * kSlotBytes;
  static constexpr int kBlockCopies = kBlockBytes == kBlockSource ? 1 : Config::kDepth;
  static constexpr int kCopyBytes = Config::kTokensFirst ? kSlotBytes : kBlockSource / kBlockCopies;
  static constexpr int kStageBytes = kBoxes * kTokenBytes;
  static constexpr int kWeightOffset = Config::kStages * kStageBytes;
  static constexpr int kWeightStage = kRowBlocks * kBlockBytes;
  // Groups of a stage's columns with a scale of each token, FP32.
  static constexpr int kStageColumns = kBoxes * kBoxColumns;
  static constexpr int kScaleColumns = Config::TokenScale::kColumns;
  static constexpr int kScaleGroups = kScaleColumns > 0 ? kStageColumns / kScaleColumns : 0;
  static_assert(kScaleGroups * kScaleColumns == kStageColumns || kScaleColumns == 0);
  // Scales of blocks of the weight go to those of tokens before they are stored, where all of a tile's rows
  // have the same; where tokens are the first operand, they lie behind those of tokens.
  static constexpr bool kSameColumns =
      Decoder::kBlockScale && kScaleColumns > 0 && kScaleColumns == Decoder::kSegment;
  static constexpr bool kJoinsScales = kSameColumns && !Config::kTokensFirst && kRows <= 128;
  static constexpr bool kStoresBlockScales = kSameColumns && Config::kTokensFirst;
  static constexpr int kGroupScales = Config::kTokens + (kStoresBlockScales ? (kRowBlocks + 3) / 4 * 4 : 0);
  static constexpr int kScaleOffset = kWeightOffset + Config::kStages * kWeightStage;
  static constexpr int kScaleStage = kScaleGroups * kGroupScales * 4;
  static constexpr int kBarrierOffset = kScaleOffset + Config::kStages * kScaleStage;
  static constexpr int kScratchOffset = kBarrierOffset + Config::kStages * 16;
  // A warpgroup stores 64 features of 16 tokens (or 8) at a time through 2048 bytes, twice at once.
  static constexpr int kPieceTokens = Config::kTokens % 16 == 0 ? 16 : 8;
  static constexpr int kPieces = Config::kTokens / kPieceTokens;
  static constexpr int kChunk = kPieces < 2 ? kPieces : 2;
  static constexpr int kWarpScratch = Config::kTokensFirst ? 2048 : kChunk * 512;
  static constexpr int kScratch =
      Config::kSplit == 1 && kIs16Bit<typename Config::Output> ? 4 * Config::kGroups * kWarpScratch : 0;
  static constexpr int kPartial = Config::kSplit > 1 ? Config::kTokens*(kRows + 4) * 4 : 0;
  // Where tokens come first, each warpgroup's factors of its features.
  static constexpr int kFactorOffset = kScratchOffset + kScratch;
  static constexpr int kFactors = Config::kTokensFirst ? Config::kGroups * kRows * 8 : 0;
  static constexpr int kRing = kFactorOffset + kFactors;
  static constexpr int kBytes = kRing > kPartial ? kRing : kPartial;
};

struct Tile {
  int token;
  int feature;
};

// Tiles in groups of `token_group` token tiles; inside a group tokens run fastest, then features.
SW_DEVICE Tile tile_at(const GemmParams& p, int index) {
  const int per_group = p.token_group * p.feature_tiles;
  const int group = index / per_group;
  const int left = p.token_tiles - group * p.token_group;
  const int width = left < p.token_group ? left : p.token_group;
  const int inside = index - group * per_group;
  return {group * p.token_group + inside % width, inside / width};
}

}  // namespace sabrewing::device
