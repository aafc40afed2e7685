#include <cmath>

#include "formats/numeric/dequantize.h"
#include "kernels/cuda/bench/random_weight.h"
#include "kernels/reference/ops.h"
#include "tests/kernels/cuda_ops_fixture.h"

namespace sabrewing::kernels::cuda {
namespace {

using formats::WeightFormat;

/// A checkpoint's matrix and its values.
struct Weight {
  WeightFormat format;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::vector<std::byte> data;
  std::vector<std::byte> scales;
  std::vector<float> values;

  WeightRows rows(std::int64_t first, std::int64_t count, std::int64_t step = 1) const {
    const std::int64_t row_bytes = static_cast<std::int64_t>(data.size()) / n;
    const std::int64_t scale_bytes = static_cast<std::int64_t>(scales.size()) / n;
    return {data.data() + first * row_bytes, row_bytes * step,
            scales.empty() ? nullptr : scales.data() + first * scale_bytes, scale_bytes * step, count};
  }
  double at(std::int64_t row, std::int64_t column) const {
    return values[static_cast<std::size_t>(row * k + column)];
  }
};

class CudaProducts : public CudaOps {
 protected:
  Weight weight(const WeightFormat& format, std::int64_t n, std::int64_t k) {
    Weight w{format, n, k, {}, {}, std::vector<float>(static_cast<std::size_t>(n * k))};
    std::uniform_int_distribution<int> any(0, 255), exponent(118, 128);
    if (format.is_scaled()) {
      w.data.resize(static_cast<std::size_t>(n * k / 2));
      for (std::byte& byte : w.data) byte = static_cast<std::byte>(any(generator_));
      w.scales.resize(static_cast<std::size_t>(n * ((k + 31) / 32)));
      for (std::byte& byte : w.scales) byte = static_cast<std::byte>(exponent(generator_));
    } else {
      for (const float value : random(static_cast<std::size_t>(n * k))) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, &value, sizeof(bits));
        if (format == WeightFormat::bf16()) bits = formats::float_to_bf16(value);
        if (format == WeightFormat::fp16()) bits = formats::float_to_fp16(value);
        for (int b = 0; b < format.element.bits; b += 8) w.data.push_back(static_cast<std::byte>(bits >> b));
      }
    }
    formats::dequantize_rows(format, {w.data, w.scales, 1}, k, 0, n, w.values);
    return w;
  }

  GemmPlanPtr plan(const Weight& w, DType output, bool bias) {
    GemmDesc desc;
    desc.weight = w.format;
    desc.activation = backend_->preferred_activation(w.format, GetParam());
    desc.output = output;
    desc.n = w.n;
    desc.k = w.k;
    desc.bias = bias;
    desc.accuracy = GetParam();
    return backend_->plan(desc);
  }
};

TEST_P(CudaProducts, GemmMatchesReference) {
  struct Shape {
    std::int64_t n, k;
  };
  for (const WeightFormat& format :
       {WeightFormat::bf16(), WeightFormat::fp16(), WeightFormat::fp32(), WeightFormat::mxfp4()}) {
    for (const Shape shape : {Shape{1, 8}, {33, 192}, {130, 2880}, {1024, 96}, {16, 264}}) {
      const Weight w = weight(format, shape.n, shape.k);
      const std::vector<float> bias = random(static_cast<std::size_t>(shape.n), 3);
      const DeviceBuffer device_bias = upload(bias);
      for (const DType output : {act_, DType::kF32}) {
        for (const bool with_bias : {false, true}) {
          const GemmPlanPtr own = plan(w, output, with_bias);
          const std::int64_t half = shape.n / 2;  // two parts, stacked
          const PackedWeight packed =
              backend_->pack(*own, {format, shape.k, {w.rows(0, half), w.rows(half, shape.n - half)}});
          std::vector<float> first_row;
          for (const std::int64_t m : {0, 1, 7, 8, 9, 70}) {
            std::vector<float> x = activations(static_cast<std::size_t>(m * shape.k));
            if (m == 1) first_row = x;
            if (m > 1) std::copy(first_row.begin(), first_row.end(), x.end() - shape.k);
            const Operand a = operand(m, shape.k, x);
            const Operand c = operand(output, m, shape.n);
            GemmArgs args;
            args.a = a.view;
            args.b = &packed;
            args.bias = with_bias ? static_cast<const float*>(device_bias.data) : nullptr;
            args.c = c.view;
            backend_->gemm(*own, args);
            const std::vector<float> out = read(c);
            for (std::int64_t i = 0; i < m; i += 5) {
              for (std::int64_t j = 0; j < shape.n; ++j) {
                double sum = with_bias ? bias[static_cast<std::size_t>(j)] : 0;
                double size = std::abs(sum);
                for (std::int64_t k = 0; k < shape.k; ++k) {
                  const double product = x[static_cast<std::size_t>(i * shape.k + k)] * w.at(j, k);
                  sum += product;
                  size += std::abs(product);
                }
                ASSERT_NEAR(out[static_cast<std::size_t>(i * shape.n + j)], sum,
                            rounding(output) * std::abs(sum) + 2e-6 * size)
                    << formats::to_string(format) << " m " << m << " row " << i << " feature " << j;
              }
            }
            backend_->gemm(*own, args);
            ASSERT_TRUE(same_bits(read(c), out)) << "second run";
          }
        }
      }
    }
  }
}

TEST_P(CudaProducts, ARowDoesNotDependOnTheOthers) {
  const Weight w = weight(WeightFormat::bf16(), 130, 2880);
  const GemmPlanPtr own = plan(w, DType::kF32, false);
  const PackedWeight packed = backend_->pack(*own, {w.format, w.k, {w.rows(0, w.n)}});
  const std::vector<float> x = activations(static_cast<std::size_t>(21 * w.k));
  const auto run = [&](std::int64_t first, std::int64_t count) {
    const Operand a = operand(count, w.k, std::span(x).subspan(static_cast<std::size_t>(first * w.k)));
    const Operand c = operand(DType::kF32, count, w.n);
    GemmArgs args;
    args.a = a.view;
    args.b = &packed;
    args.c = c.view;
    backend_->gemm(*own, args);
    return read(c);
  };
  const std::vector<float> all = run(0, 21);
  for (const std::int64_t row : {0, 7, 8, 20})
    EXPECT_TRUE(same_bits(run(row, 1), std::span(all).subspan(static_cast<std::size_t>(row * w.n), 130)))
        << row;
}

TEST_P(CudaProducts, EveryMxfp4CodeAndScale) {
  // Column 32 s + c of row r holds code c % 16 under the scale r * 8 + s; a one-hot activation reads it.
  Weight w = weight(WeightFormat::mxfp4(), 32, 256);
  for (std::size_t i = 0; i < w.data.size(); ++i)
    w.data[i] = static_cast<std::byte>(i * 2 % 16 | (i * 2 + 1) % 16 << 4);
  for (std::size_t i = 0; i < w.scales.size(); ++i)
    w.scales[i] = static_cast<std::byte>(std::min<std::size_t>(i, 254));
  formats::dequantize_rows(w.format, {w.data, w.scales, 1}, w.k, 0, w.n, w.values);
  const GemmPlanPtr own = plan(w, DType::kF32, false);
  const PackedWeight packed = backend_->pack(*own, {w.format, w.k, {w.rows(0, w.n)}});
  std::vector<std::int32_t> ids(32);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(31 - i);
  const DeviceBuffer device_ids = upload(ids);
  const Operand out = operand(DType::kF32, 32, 256);
  backend_->embed(*own, packed, static_cast<const std::int32_t*>(device_ids.data), out.view);
  const std::vector<float> got = read(out);
  for (std::size_t i = 0; i < ids.size(); ++i)
    for (std::int64_t k = 0; k < w.k; ++k)
      ASSERT_EQ(static_cast<double>(got[i * 256 + static_cast<std::size_t>(k)]), w.at(ids[i], k))
          << ids[i] << " " << k;
}

TEST_P(CudaProducts, EmbedIsExact) {
  for (const WeightFormat& format : {WeightFormat::bf16(), WeightFormat::fp16(), WeightFormat::fp32()}) {
    const Weight w = weight(format, 50, 2880);
    const GemmPlanPtr own = plan(w, DType::kF32, false);
    const PackedWeight packed = backend_->pack(*own, {format, w.k, {w.rows(0, w.n)}});
    const std::vector<std::int32_t> ids = {49, 0, 7};
    const DeviceBuffer device_ids = upload(ids);
    const Operand out = operand(DType::kF32, 3, w.k);
    backend_->embed(*own, packed, static_cast<const std::int32_t*>(device_ids.data), out.view);
    const std::vector<float> got = read(out);
    for (std::size_t i = 0; i < ids.size(); ++i)
      ASSERT_TRUE(same_bits(std::span(got).subspan(i * 2880, 2880),
                            std::span(w.values).subspan(static_cast<std::size_t>(ids[i]) * 2880, 2880)));
  }
}

TEST_P(CudaProducts, ExpertsMatchReference) {
  struct Case {
    WeightFormat format;
    GluActivation activation;
    bool bias;
    std::int64_t experts, hidden, intermediate;
    int top_k;
  };
  for (const Case& c : {Case{WeightFormat::mxfp4(), GluActivation::kClampedSwiGlu, true, 8, 192, 160, 4},
                        Case{WeightFormat::bf16(), GluActivation::kSilu, false, 40, 96, 72, 3},
                        Case{WeightFormat::mxfp4(), GluActivation::kSilu, false, 1, 64, 32, 1}}) {
    ExpertsDesc desc{c.format,     c.experts, c.hidden, c.intermediate, c.top_k,
                     c.activation, 7.0f,      c.bias,   GetParam()};
    const ExpertsPlanPtr own = backend_->plan(desc);
    std::vector<Weight> w13, w2;
    std::vector<ExpertSource> sources;
    for (std::int64_t e = 0; e < c.experts; ++e) {
      w13.push_back(weight(c.format, 2 * c.intermediate, c.hidden));
      w2.push_back(weight(c.format, c.hidden, c.intermediate));
    }
    for (std::size_t e = 0; e < w13.size(); ++e)  // gate and up interleave
      sources.push_back(
          {w13[e].rows(0, c.intermediate, 2), w13[e].rows(1, c.intermediate, 2), w2[e].rows(0, c.hidden)});
    const std::vector<float> bias13 =
        random(c.bias ? static_cast<std::size_t>(c.experts * 2 * c.intermediate) : 0);
    const std::vector<float> bias2 = random(c.bias ? static_cast<std::size_t>(c.experts * c.hidden) : 0);
    const PackedExperts packed = backend_->pack(*own, sources, bias13, bias2);
    for (const std::int64_t m : {0, 1, 5, 70}) {
      for (const bool one_expert : {false, true}) {
        const std::vector<float> x = activations(static_cast<std::size_t>(m * c.hidden));
        const auto pairs = static_cast<std::size_t>(m * c.top_k);
        std::vector<std::int32_t> ids(pairs);
        std::uniform_int_distribution<std::int32_t> any(-1, static_cast<std::int32_t>(c.experts) - 1);
        for (std::int32_t& id : ids)
          id = one_expert ? static_cast<std::int32_t>(c.experts) - 1 : any(generator_);
        const std::vector<float> weights = random(pairs);
        const DeviceBuffer device_ids = upload(ids), device_weights = upload(weights);
        const DeviceBuffer workspace = backend_->allocate(own->workspace_bytes(m));
        const Operand x_rows = operand(m, c.hidden, x), y = operand(m, c.hidden);
        const ExpertsArgs args{x_rows.view,
                               static_cast<const std::int32_t*>(device_ids.data),
                               static_cast<const float*>(device_weights.data),
                               &packed,
                               y.view,
                               workspace.data};
        backend_->experts(*own, args);
        const std::vector<float> out = read(y);
        for (std::int64_t i = 0; i < m; i += 3) {
          std::vector<double> sum(static_cast<std::size_t>(c.hidden)), size(sum);
          for (int j = 0; j < c.top_k; ++j) {
            const std::int32_t id = ids[static_cast<std::size_t>(i * c.top_k + j)];
            if (id < 0) continue;
            const auto e = static_cast<std::size_t>(id);
            std::vector<float> gate_up;
            for (std::int64_t r = 0; r < 2 * c.intermediate; ++r) {
              const std::int64_t row = r < c.intermediate ? 2 * r : 2 * (r - c.intermediate) + 1;
              double dot =
                  c.bias
                      ? bias13[e * static_cast<std::size_t>(2 * c.intermediate) + static_cast<std::size_t>(r)]
                      : 0;
              for (std::int64_t k = 0; k < c.hidden; ++k)
                dot += x[static_cast<std::size_t>(i * c.hidden + k)] * w13[e].at(row, k);
              gate_up.push_back(static_cast<float>(dot));
            }
            const std::vector<double> h = reference::glu(gate_up, c.activation, 7.0);
            const double share = weights[static_cast<std::size_t>(i * c.top_k + j)];
            for (std::int64_t n = 0; n < c.hidden; ++n) {
              double dot =
                  c.bias ? bias2[e * static_cast<std::size_t>(c.hidden) + static_cast<std::size_t>(n)] : 0;
              double dot_size = std::abs(dot);
              for (std::int64_t k = 0; k < c.intermediate; ++k) {
                const double product = h[static_cast<std::size_t>(k)] * w2[e].at(n, k);
                dot += product;
                dot_size += std::abs(product);
              }
              sum[static_cast<std::size_t>(n)] += share * dot;
              size[static_cast<std::size_t>(n)] += std::abs(share) * dot_size;
            }
          }
          // Two roundings: of the intermediate, at most rounding() of each product, and of the result.
          for (std::int64_t n = 0; n < c.hidden; ++n)
            ASSERT_NEAR(out[static_cast<std::size_t>(i * c.hidden + n)], sum[static_cast<std::size_t>(n)],
                        rounding() * std::abs(sum[static_cast<std::size_t>(n)]) +
                            2 * rounding() * size[static_cast<std::size_t>(n)] + 1e-12)
                << formats::to_string(c.format) << " m " << m << " row " << i << " feature " << n;
        }
        backend_->experts(*own, args);
        ASSERT_TRUE(same_bits(read(y), out)) << "second run";
      }
    }
  }
}

TEST_P(CudaProducts, PackedFormatsMatchFloat64) {
  for (const char* name : {"int4g128", "int4row", "fp8row"}) {
    const RandomWeight w(format_by_name(name), 200, 512, 3);
    GemmDesc desc;
    desc.weight = w.format;
    desc.activation = backend_->preferred_activation(w.format, GetParam());
    desc.output = act_;
    desc.n = w.n;
    desc.k = w.k;
    desc.accuracy = GetParam();
    if (is_exact()) {
      EXPECT_FALSE(backend_->can_implement(desc)) << name;
      continue;
    }
    ASSERT_TRUE(backend_->can_implement(desc)) << backend_->can_implement(desc).reason;
    const GemmPlanPtr own = backend_->plan(desc);
    const PackedWeight packed = backend_->pack(*own, w.source());
    for (const std::int64_t m : {1, 9, 130}) {
      const std::vector<float> x = activations(static_cast<std::size_t>(m * w.k));
      std::vector<std::uint16_t> codes;
      for (const float value : x) codes.push_back(formats::float_to_bf16(value));
      const DeviceBuffer a = upload(codes);
      const DeviceBuffer c = backend_->allocate(static_cast<std::size_t>(m * w.n) * 2);
      GemmArgs args;
      args.a = {a.data, act_, m, w.k, w.k};
      args.b = &packed;
      args.c = {c.data, act_, m, w.n, w.n};
      backend_->gemm(*own, args);
      std::vector<std::uint16_t> y(static_cast<std::size_t>(m * w.n));
      backend_->copy_out(y.data(), c.data, y.size() * 2);
      backend_->synchronize();
      double error = 0, norm = 0;
      for (std::int64_t t = 0; t < m; ++t)
        for (std::int64_t r = 0; r < w.n; ++r) {
          double want = 0;
          for (std::int64_t i = 0; i < w.k; ++i)
            want += static_cast<double>(x[static_cast<std::size_t>(t * w.k + i)]) * w.value(r, i);
          const double got = formats::bf16_to_float(y[static_cast<std::size_t>(t * w.n + r)]);
          error += (got - want) * (got - want);
          norm += want * want;
        }
      EXPECT_LE(std::sqrt(error), 2.3e-3 * std::sqrt(norm)) << name << " M " << m;
    }
  }
}

TEST_P(CudaProducts, RefusalsNameTheRule) {
  GemmDesc desc;
  desc.weight = WeightFormat::nvfp4();
  desc.activation = backend_->preferred_activation(desc.weight, GetParam());
  desc.output = act_;
  desc.n = desc.k = 64;
  desc.accuracy = GetParam();
  EXPECT_NE(backend_->can_implement(desc).reason.find("nvfp4"), std::string::npos);
  EXPECT_THROW(backend_->plan(desc), Error);
  desc.weight = WeightFormat::bf16();
  EXPECT_TRUE(backend_->can_implement(desc));
  desc.k = 60;
  EXPECT_NE(backend_->can_implement(desc).reason.find("multiple of 8"), std::string::npos);
  desc.k = 64;
  desc.activation = formats::ActivationFormat::fp16();
  EXPECT_NE(backend_->can_implement(desc).reason.find("fp16"), std::string::npos);
  if (!is_exact()) {
    desc.activation = formats::ActivationFormat::bf16();
    desc.accuracy = Accuracy::kExact;
    EXPECT_NE(backend_->can_implement(desc).reason.find("exact"), std::string::npos);
  }
}

TEST_P(CudaProducts, RefusesWrongOperands) {
  const Weight w = weight(WeightFormat::bf16(), 64, 64);
  const GemmPlanPtr own = plan(w, act_, false);
  EXPECT_THROW(backend_->pack(*own, {w.format, 64, {w.rows(0, 63)}}), Error);
  const PackedWeight packed = backend_->pack(*own, {w.format, 64, {w.rows(0, 64)}});
  const Operand a = operand(3, 72), c = operand(3, 64);
  GemmArgs args;
  args.a = a.view.columns(0, 64);
  args.b = &packed;
  args.c = c.view;
  EXPECT_NO_THROW(backend_->gemm(*own, args));
  args.a = a.view.columns(1, 64);
  EXPECT_THROW(backend_->gemm(*own, args), Error);  // not aligned
  args.a = a.view.columns(0, 56);
  EXPECT_THROW(backend_->gemm(*own, args), Error);
  args.a = a.view.columns(0, 64);
  PackedWeight foreign = packed;
  foreign.version = 77;
  args.b = &foreign;
  EXPECT_THROW(backend_->gemm(*own, args), Error);
  args.b = nullptr;
  EXPECT_THROW(backend_->gemm(*own, args), Error);
  backend_->synchronize();
}

INSTANTIATE_TEST_SUITE_P(Gpu, CudaProducts, testing::Values(Accuracy::kDefault, Accuracy::kExact),
                         accuracy_name);

}  // namespace
}  // namespace sabrewing::kernels::cuda
