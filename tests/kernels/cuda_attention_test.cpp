#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/reference/ops.h"
#include "tests/kernels/cuda_ops_fixture.h"

namespace sabrewing::kernels::cuda {
namespace {

struct Layer {
  std::int64_t q_heads = 4;
  std::int64_t kv_heads = 2;
  std::int64_t head_dim = 64;
  std::int64_t window = 0;
  std::vector<float> sinks;
  std::int64_t block_size = 16;
  float scale = 0.125f;
};

struct Sequence {
  std::int64_t length = 0;
  std::vector<float> q, k, v;
};

class CudaAttention : public CudaOps {
 protected:
  Sequence sequence(const Layer& layer, std::int64_t length, float spread = 1) {
    Sequence s;
    s.length = length;
    s.q = activations(static_cast<std::size_t>(length * layer.q_heads * layer.head_dim), spread);
    s.k = activations(static_cast<std::size_t>(length * layer.kv_heads * layer.head_dim), spread);
    s.v = activations(static_cast<std::size_t>(length * layer.kv_heads * layer.head_dim));
    return s;
  }

  /// Each sequence's next `chunk` tokens per step, all sequences in one batch, over permuted blocks in memory
  /// that is NaN until written. Returns the output rows of each sequence.
  std::vector<std::vector<float>> run(const Layer& layer, const std::vector<Sequence>& sequences,
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
    const std::vector<std::uint32_t> poison(static_cast<std::size_t>(blocks * layer.block_size * kv_width),
                                            0x7fc07fc0u);
    const DeviceBuffer keys = upload(poison), values = upload(poison), tables = upload(table);
    const DeviceBuffer sinks = layer.sinks.empty() ? DeviceBuffer{} : upload(layer.sinks);
    AttentionArgs args;
    args.cache = {{layer.block_size, layer.kv_heads, layer.head_dim, act_}, keys.data, values.data};
    args.q_heads = layer.q_heads;
    args.scale = layer.scale;
    args.window = layer.window;
    args.sinks = static_cast<const float*>(sinks.data);

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
      const Operand q_rows = operand(tokens, q_width, q), k_rows = operand(tokens, kv_width, k);
      const Operand v_rows = operand(tokens, kv_width, v), o_rows = operand(tokens, q_width);
      const DeviceBuffer at = upload(positions), query_start = upload(starts);
      Batch batch;
      batch.tokens = tokens;
      batch.sequences = count;
      batch.positions = static_cast<const std::int32_t*>(at.data);
      batch.query_start = static_cast<const std::int32_t*>(query_start.data);
      batch.block_table = static_cast<const std::int32_t*>(tables.data);
      batch.max_blocks = max_blocks;
      batch.max_context = done + chunk;
      args.q = q_rows.view;
      args.k = k_rows.view;
      args.v = v_rows.view;
      args.o = o_rows.view;
      backend_->attention(args, batch);
      const std::vector<float> rows = read(o_rows);
      for (std::size_t s = 0; s < sequences.size(); ++s)
        out[s].insert(out[s].end(), rows.begin() + starts[s] * q_width,
                      rows.begin() + starts[s + 1] * q_width);
    }
    return out;
  }

  void expect_reference(const Layer& layer, const Sequence& s, const std::vector<float>& out,
                        std::int64_t every = 1, double tolerance = 5e-6) {
    const auto width = static_cast<std::size_t>(layer.q_heads * layer.head_dim);
    const reference::AttentionShape shape{layer.q_heads, layer.kv_heads, layer.head_dim,
                                          layer.scale,   layer.window,   layer.sinks};
    ASSERT_EQ(out.size(), static_cast<std::size_t>(s.length) * width);
    for (std::int64_t p = s.length - 1; p >= 0; p -= every) {
      const std::size_t at = static_cast<std::size_t>(p) * width;
      expect_near(std::span(out).subspan(at, width),
                  reference::attention(shape, std::span(s.q).subspan(at, width), p, s.k, s.v),
                  rounding() + tolerance, tolerance);
    }
  }
};

TEST_P(CudaAttention, HeadsAndHeadSizes) {
  for (const auto& [q_heads, kv_heads] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {6, 6}, {5, 1}, {16, 2}, {20, 1}}) {
    for (const std::int64_t head_dim : {4, 18, 64, 80, 128, 256}) {
      Layer layer;
      layer.q_heads = q_heads;
      layer.kv_heads = kv_heads;
      layer.head_dim = head_dim;
      const std::vector<Sequence> sequences = {sequence(layer, 70)};
      expect_reference(layer, sequences[0], run(layer, sequences, 70)[0], 7);
    }
  }
}

TEST_P(CudaAttention, Windows) {
  for (const std::int64_t window : {1, 5, 31, 32, 33, 128, 1000}) {
    Layer layer;
    layer.window = window;
    const std::vector<Sequence> sequences = {sequence(layer, 210)};
    expect_reference(layer, sequences[0], run(layer, sequences, 210)[0], 11);
    expect_reference(layer, sequences[0], run(layer, sequences, 70)[0], 29);
  }
}

TEST_P(CudaAttention, Sinks) {
  Layer layer;
  layer.sinks = {-1e4f, 8.0f, 0.0f, 5.0f};
  const std::vector<Sequence> sequences = {sequence(layer, 100)};
  expect_reference(layer, sequences[0], run(layer, sequences, 100)[0]);
}

TEST_P(CudaAttention, LargeScoresDoNotOverflow) {
  Layer layer;
  layer.scale = 1;
  const std::vector<Sequence> sequences = {sequence(layer, 150, 12)};
  expect_reference(layer, sequences[0], run(layer, sequences, 150)[0], 7, 1e-3);
}

TEST_P(CudaAttention, SequencesOfDifferentLengthInChunks) {
  Layer layer;
  layer.window = 40;
  layer.sinks = {1, -1, 0.5f, 2};
  std::vector<Sequence> sequences;
  for (const std::int64_t length : {1, 130, 17, 64, 65}) sequences.push_back(sequence(layer, length));
  for (const std::int64_t chunk : {200, 33, 1}) {
    const auto out = run(layer, sequences, chunk);
    for (std::size_t s = 0; s < sequences.size(); ++s) expect_reference(layer, sequences[s], out[s], 11);
  }
}

TEST_P(CudaAttention, LongContext) {
  Layer layer;
  layer.q_heads = 8;
  layer.kv_heads = 1;
  const std::vector<Sequence> sequences = {sequence(layer, 3000)};
  expect_reference(layer, sequences[0], run(layer, sequences, 3000)[0], 311);
}

TEST_P(CudaAttention, SameBitsForAnyChunkAndBlockSize) {
  for (const std::int64_t window : {0, 50}) {
    Layer layer;
    layer.q_heads = 8;
    layer.kv_heads = 1;
    layer.window = window;
    layer.sinks = random(8);
    const std::vector<Sequence> both = {sequence(layer, 150), sequence(layer, 70)};
    const auto expected = run(layer, both, 150);
    for (const std::int64_t block_size : {1, 7, 256}) {
      layer.block_size = block_size;
      const auto together = run(layer, both, 41);
      EXPECT_TRUE(same_bits(together[0], expected[0])) << block_size;
      EXPECT_TRUE(same_bits(together[1], expected[1])) << block_size;
      EXPECT_TRUE(same_bits(run(layer, {both[1]}, 64)[0], expected[1])) << block_size;
    }
  }
}

TEST_P(CudaAttention, NanStaysInItsSequence) {
  Layer layer;
  std::vector<Sequence> sequences = {sequence(layer, 80), sequence(layer, 80)};
  const auto clean = run(layer, sequences, 80);
  sequences[0].k[10] = std::numeric_limits<float>::quiet_NaN();
  const auto out = run(layer, sequences, 80);
  EXPECT_TRUE(std::isnan(out[0][79 * 256]));
  EXPECT_TRUE(same_bits(out[1], clean[1]));
}

INSTANTIATE_TEST_SUITE_P(Gpu, CudaAttention, testing::Values(Accuracy::kDefault, Accuracy::kExact),
                         accuracy_name);

}  // namespace
}  // namespace sabrewing::kernels::cuda
