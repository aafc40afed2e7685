#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"
#include "formats/numeric/float16.h"
#include "kernels/reference/ops.h"
#include "tests/kernels/cpu_ops_fixture.h"

namespace sabrewing::kernels::cpu {
namespace {

struct Layer {
  std::int64_t q_heads = 4;
  std::int64_t kv_heads = 2;
  std::int64_t head_dim = 64;
  std::int64_t window = 0;
  std::vector<float> sinks;
  std::int64_t block_size = 16;
  DType cache = DType::kF32;
  float scale = 0.125f;
};

/// q, k and v of one sequence, all positions.
struct Sequence {
  std::int64_t length = 0;
  std::vector<float> q, k, v;
};

class AttentionTest : public OpsTest {
 protected:
  Sequence sequence(const Layer& layer, std::int64_t length, float spread = 1) {
    Sequence s;
    s.length = length;
    s.q = random(static_cast<std::size_t>(length * layer.q_heads * layer.head_dim), spread);
    s.k = random(static_cast<std::size_t>(length * layer.kv_heads * layer.head_dim), spread);
    s.v = random(static_cast<std::size_t>(length * layer.kv_heads * layer.head_dim));
    return s;
  }

  /// Runs the sequences through `ops`, each sequence's next `chunk` tokens per step (all sequences in one
  /// batch), over a permuted block table. Returns the output rows of each sequence.
  std::vector<std::vector<float>> run(Ops& ops, const Layer& layer, const std::vector<Sequence>& sequences,
                                      std::int64_t chunk) {
    const std::int64_t q_width = layer.q_heads * layer.head_dim;
    const std::int64_t kv_width = layer.kv_heads * layer.head_dim;
    std::int64_t longest = 0;
    for (const Sequence& s : sequences) longest = std::max(longest, s.length);
    const std::int64_t max_blocks = (longest + layer.block_size - 1) / layer.block_size + 1;
    const auto count = static_cast<std::int64_t>(sequences.size());
    const std::int64_t blocks = max_blocks * count + 3;
    std::vector<std::int32_t> order(static_cast<std::size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), generator_);
    std::vector<std::int32_t> table(static_cast<std::size_t>(max_blocks * count), -1);
    std::size_t next = 0;
    for (std::int64_t s = 0; s < count; ++s)
      for (std::int64_t b = 0; b * layer.block_size < sequences[static_cast<std::size_t>(s)].length; ++b)
        table[static_cast<std::size_t>(s * max_blocks + b)] = order[next++];

    // Memory that nobody wrote is NaN: reading it would show.
    const auto elements = static_cast<std::size_t>(blocks * layer.block_size * kv_width);
    std::vector<std::uint32_t> keys(elements, 0x7fc07fc0u), values(elements, 0x7fc07fc0u);
    AttentionArgs args;
    args.cache = {
        {layer.block_size, layer.kv_heads, layer.head_dim, layer.cache}, keys.data(), values.data()};
    args.q_heads = layer.q_heads;
    args.scale = layer.scale;
    args.window = layer.window;
    args.sinks = layer.sinks.empty() ? nullptr : layer.sinks.data();

    std::vector<std::vector<float>> out(sequences.size());
    for (std::int64_t done = 0; done < longest; done += chunk) {
      std::vector<float> q, k, v;
      std::vector<std::int32_t> positions, starts = {0};
      for (const Sequence& s : sequences) {
        const std::int64_t end = std::min(s.length, done + chunk);
        for (std::int64_t p = done; p < end; ++p) {
          positions.push_back(static_cast<std::int32_t>(p));
          q.insert(q.end(), s.q.begin() + p * q_width, s.q.begin() + (p + 1) * q_width);
          k.insert(k.end(), s.k.begin() + p * kv_width, s.k.begin() + (p + 1) * kv_width);
          v.insert(v.end(), s.v.begin() + p * kv_width, s.v.begin() + (p + 1) * kv_width);
        }
        starts.push_back(static_cast<std::int32_t>(positions.size()));
      }
      const auto tokens = static_cast<std::int64_t>(positions.size());
      GuardedMatrix q_rows(tokens, q_width, q), k_rows(tokens, kv_width, k), v_rows(tokens, kv_width, v);
      GuardedMatrix o_rows(tokens, q_width);
      Batch batch;
      batch.tokens = tokens;
      batch.sequences = count;
      batch.positions = positions.data();
      batch.query_start = starts.data();
      batch.block_table = table.data();
      batch.max_blocks = max_blocks;
      batch.max_context = done + chunk;
      args.q = q_rows.view();
      args.k = k_rows.view();
      args.v = v_rows.view();
      args.o = o_rows.view();
      const std::size_t bytes = ops.attention_workspace_bytes(args, batch);
      struct alignas(64) Line {
        std::byte bytes[64];
      };
      std::vector<Line> workspace(bytes / 64 + 2);
      std::memset(workspace.data(), 0xff, workspace.size() * 64);
      args.workspace = workspace.data();
      ops.attention(args, batch);
      for (std::size_t i = bytes; i < workspace.size() * 64; ++i)
        EXPECT_EQ(workspace[i / 64].bytes[i % 64], std::byte{0xff}) << "workspace overrun";
      o_rows.expect_guards();
      for (std::size_t s = 0; s < sequences.size(); ++s)
        for (std::int64_t row = starts[s]; row < starts[s + 1]; ++row)
          out[s].insert(out[s].end(), o_rows.row(row).begin(), o_rows.row(row).end());
    }
    return out;
  }

  void expect_reference(const Layer& layer, const Sequence& s, const std::vector<float>& out,
                        double tolerance, std::int64_t every = 1) {
    const std::int64_t width = layer.q_heads * layer.head_dim;
    std::vector<float> k = s.k, v = s.v;
    if (layer.cache == DType::kBF16)
      for (std::vector<float>* cached : {&k, &v})
        for (float& x : *cached) x = formats::bf16_to_float(formats::float_to_bf16(x));
    const reference::AttentionShape shape{layer.q_heads, layer.kv_heads, layer.head_dim,
                                          layer.scale,   layer.window,   layer.sinks};
    ASSERT_EQ(out.size(), static_cast<std::size_t>(s.length * width));
    for (std::int64_t p = s.length - 1; p >= 0; p -= every) {
      const auto at = static_cast<std::size_t>(p * width);
      const auto size = static_cast<std::size_t>(width);
      const std::vector<double> expected =
          reference::attention(shape, std::span(s.q).subspan(at, size), p, k, v);
      expect_row_near(std::span(out).subspan(at, size), expected, tolerance, tolerance);
    }
  }
};

TEST_P(AttentionTest, HeadsAndHeadSizes) {
  for (const auto& [q_heads, kv_heads] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {6, 6}, {5, 1}, {16, 2}, {40, 1}}) {
    for (const std::int64_t head_dim : {4, 18, 64, 80, 128}) {
      for (const DType cache : {DType::kF32, DType::kBF16}) {
        Layer layer;
        layer.q_heads = q_heads;
        layer.kv_heads = kv_heads;
        layer.head_dim = head_dim;
        layer.cache = cache;
        const std::vector<Sequence> sequences = {sequence(layer, 70)};
        expect_reference(layer, sequences[0], run(ops_, layer, sequences, 70)[0], 3e-6, 7);
      }
    }
  }
}

TEST_P(AttentionTest, WindowsSmallerAndLargerThanBlocks) {
  for (const std::int64_t window : {1, 5, 16, 63, 64, 65, 128, 1000}) {
    Layer layer;
    layer.window = window;
    const std::vector<Sequence> sequences = {sequence(layer, 210)};
    for (const std::int64_t chunk : {210, 9})
      expect_reference(layer, sequences[0], run(ops_, layer, sequences, chunk)[0], 3e-6, chunk == 9 ? 29 : 1);
  }
}

TEST_P(AttentionTest, SinksFromNoneToOverwhelming) {
  Layer layer;
  layer.sinks = {-1e4f, 80.0f, 0.0f, 5.0f};
  const std::vector<Sequence> sequences = {sequence(layer, 100)};
  const std::vector<float> out = run(ops_, layer, sequences, 100)[0];
  expect_reference(layer, sequences[0], out, 3e-6);
  // The head under the large sink is nearly zero: compared by its relative error.
  const reference::AttentionShape shape{4, 2, 64, layer.scale, 0, layer.sinks};
  const std::vector<double> expected = reference::attention(
      shape, std::span(sequences[0].q).subspan(99 * 256, 256), 99, sequences[0].k, sequences[0].v);
  for (std::size_t d = 64; d < 128; ++d) {
    ASSERT_GT(std::abs(expected[d]), 0);
    ASSERT_LT(std::abs(expected[d]), 1e-30);
    ASSERT_NEAR(out[99 * 256 + d], expected[d], 1e-3 * std::abs(expected[d]) + 1e-37);
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  Layer layer;
  layer.scale = 1;
  const std::vector<Sequence> sequences = {sequence(layer, 150, 12)};
  expect_reference(layer, sequences[0], run(ops_, layer, sequences, 150)[0], 1e-3);
}

TEST_P(AttentionTest, SequencesOfDifferentLength) {
  Layer layer;
  layer.window = 40;
  layer.sinks = {1, -1, 0.5f, 2};
  for (const DType cache : {DType::kF32, DType::kBF16}) {
    layer.cache = cache;
    std::vector<Sequence> sequences;
    for (const std::int64_t length : {1, 130, 17, 64, 65}) sequences.push_back(sequence(layer, length));
    for (const std::int64_t chunk : {200, 33, 1}) {
      const auto out = run(ops_, layer, sequences, chunk);
      for (std::size_t s = 0; s < sequences.size(); ++s)
        expect_reference(layer, sequences[s], out[s], 3e-6, 11);
    }
  }
}

TEST_P(AttentionTest, LongContext) {
  Layer layer;
  layer.q_heads = 3;
  layer.kv_heads = 1;
  layer.head_dim = 32;
  for (const std::int64_t window : {0, 128}) {
    layer.window = window;
    const std::vector<Sequence> sequences = {sequence(layer, 3000)};
    expect_reference(layer, sequences[0], run(ops_, layer, sequences, 3000)[0], 3e-6, 311);
  }
}

TEST_P(AttentionTest, SameBitsForAnyChunkBlockSizeAndThreads) {
  ThreadPool one(1);
  Ops single(one, GetParam().tier);
  for (const auto& [q_heads, kv_heads] : {std::pair<std::int64_t, std::int64_t>{8, 1}, {3, 3}}) {
    for (const std::int64_t window : {0, 50}) {
      for (const bool with_sinks : {false, true}) {
        Layer layer;
        layer.q_heads = q_heads;
        layer.kv_heads = kv_heads;
        layer.window = window;
        if (with_sinks) layer.sinks = random(static_cast<std::size_t>(q_heads));
        const std::vector<Sequence> both = {sequence(layer, 150), sequence(layer, 70)};
        const auto expected = run(single, layer, both, 150);
        for (const std::int64_t block_size : {1, 7, 16, 256}) {
          for (const std::int64_t chunk : {1, 5, 64, 150}) {
            if (chunk == 1 && block_size != 7) continue;
            layer.block_size = block_size;
            const auto together = run(ops_, layer, both, chunk);
            const auto alone = run(ops_, layer, {both[1]}, chunk);
            EXPECT_TRUE(same_bits(together[0], expected[0])) << block_size << " " << chunk;
            EXPECT_TRUE(same_bits(together[1], expected[1])) << block_size << " " << chunk;
            EXPECT_TRUE(same_bits(alone[0], expected[1])) << block_size << " " << chunk;
          }
        }
      }
    }
  }
}

TEST_P(AttentionTest, NanStaysInItsSequence) {
  Layer layer;
  std::vector<Sequence> sequences = {sequence(layer, 80), sequence(layer, 80)};
  const auto clean = run(ops_, layer, sequences, 80);
  sequences[0].k[10] = std::numeric_limits<float>::quiet_NaN();
  const auto out = run(ops_, layer, sequences, 80);
  EXPECT_TRUE(std::isnan(out[0].back() + out[0][79 * 256]));
  EXPECT_TRUE(same_bits(out[1], clean[1]));
}

TEST_P(AttentionTest, NoTokens) {
  Layer layer;
  AttentionArgs args;
  args.cache.desc = {16, 2, 64, DType::kF32};
  args.q_heads = 4;
  GuardedMatrix q(0, 256), kv(0, 128);
  args.q = args.o = q.view();
  args.k = args.v = kv.view();
  const std::int32_t start[] = {0, 0};
  Batch batch;
  batch.sequences = 1;
  batch.query_start = start;
  ops_.attention(args, batch);
  q.expect_guards();
}

TEST_P(AttentionTest, BadTablesAreRefused) {
  AttentionArgs args;
  std::vector<float> cache(16 * 128);
  args.cache = {{16, 2, 64, DType::kF32}, cache.data(), cache.data()};
  args.q_heads = 4;
  GuardedMatrix q(1, 256, std::vector<float>(256)), kv(1, 128, std::vector<float>(128)), o(1, 256);
  args.q = q.view();
  args.o = o.view();
  args.k = args.v = kv.view();
  std::vector<float> workspace(1 << 16);
  args.workspace = workspace.data();
  std::int32_t start[] = {0, 1};
  std::int32_t position = 16;
  std::int32_t table[] = {0, -1};
  Batch batch;
  batch.tokens = 1;
  batch.sequences = 1;
  batch.query_start = start;
  batch.positions = &position;
  batch.block_table = table;
  batch.max_blocks = 2;
  EXPECT_THROW(ops_.attention(args, batch), Error) << "no block";
  position = 32;
  EXPECT_THROW(ops_.attention(args, batch), Error) << "past the table";
  position = -1;
  EXPECT_THROW(ops_.attention(args, batch), Error) << "negative";
  position = 0;
  start[1] = 0;
  EXPECT_THROW(ops_.attention(args, batch), Error) << "uncovered token";
  start[1] = 1;
  args.q_heads = 3;
  EXPECT_THROW(ops_.attention(args, batch), Error) << "heads";
  args.q_heads = 4;
  args.cache.desc.dtype = DType::kF16;
  EXPECT_THROW(ops_.attention(args, batch), Error) << "cache type";
}

INSTANTIATE_TEST_SUITE_P(Tiers, AttentionTest, testing::ValuesIn(ops_cases()), ops_case_name);

}  // namespace
}  // namespace sabrewing::kernels::cpu
