#include <cmath>
#include <cstring>
#include <span>
#include <thread>

#include "capi/descriptors.h"
#include "capi_fixture.h"
#include "core/log.h"
#include "core/thread_pool.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/pack.h"

namespace sabrewing::testing {
namespace {

// A structure's size is part of the interface.
static_assert(sizeof(sabrewing_element_type) == 4);
static_assert(sizeof(sabrewing_weight_format) == capi::kFirstSize<sabrewing_weight_format>);
static_assert(sizeof(sabrewing_activation_format) == capi::kFirstSize<sabrewing_activation_format>);
static_assert(sizeof(sabrewing_context_desc) == capi::kFirstSize<sabrewing_context_desc>);
static_assert(sizeof(sabrewing_gemm_desc) == capi::kFirstSize<sabrewing_gemm_desc>);
static_assert(sizeof(sabrewing_weight_rows) == capi::kFirstSize<sabrewing_weight_rows>);
static_assert(sizeof(sabrewing_weight_source) == capi::kFirstSize<sabrewing_weight_source>);
static_assert(sizeof(sabrewing_gemm_args) == 96 && capi::kFirstSize<sabrewing_gemm_args> == 88);

TEST_F(CapiTest, Versions) {
  EXPECT_EQ(sabrewing_abi_version(), std::uint32_t{SABREWING_ABI_VERSION});
  EXPECT_EQ(std::string(sabrewing_version()).find_first_not_of("0123456789."), std::string::npos);
  EXPECT_STREQ(sabrewing_status_name(SABREWING_OK), "ok");
  EXPECT_STREQ(sabrewing_status_name(SABREWING_INTERNAL), "internal");
  EXPECT_STREQ(sabrewing_status_name(-1), "unknown");
  EXPECT_STREQ(sabrewing_status_name(9), "unknown");
}

TEST_F(CapiTest, ErrorsAreOfTheThread) {
  EXPECT_NE(sabrewing_parse_element_type("int99", &format_.element), SABREWING_OK);
  EXPECT_NE(std::string(sabrewing_last_error()).find("int99"), std::string::npos);
  std::string other = "unset";
  std::thread([&] { other = sabrewing_last_error(); }).join();
  EXPECT_EQ(other, "");
}

TEST_F(CapiTest, LogCallback) {
  std::string seen;
  const auto keep = [](std::int32_t level, const char* message, void* user) {
    *static_cast<std::string*>(user) = std::to_string(level) + message;
  };
  ASSERT_EQ(sabrewing_set_log_callback(keep, &seen), SABREWING_OK);
  log(LogLevel::kWarning, "folder {}", 3);
  EXPECT_EQ(seen, "2folder 3");
  ASSERT_EQ(sabrewing_set_log_callback(nullptr, nullptr), SABREWING_OK);
  log(LogLevel::kWarning, "gone");
  EXPECT_EQ(seen, "2folder 3");
}

TEST_F(CapiTest, ElementTypes) {
  const sabrewing_element_type e2m1 = element("float4e2m1");
  EXPECT_EQ(e2m1.kind, SABREWING_KIND_MINIFLOAT);
  EXPECT_EQ(e2m1.bits, 4);
  EXPECT_EQ(e2m1.exponent, 2);
  EXPECT_EQ(e2m1.mantissa, 1);
  EXPECT_EQ(element("uint3").kind, SABREWING_KIND_UINT);
  EXPECT_EQ(element("int8").kind, SABREWING_KIND_INT);
  EXPECT_EQ(element("bf16").kind, SABREWING_KIND_IEEE);
  EXPECT_EQ(element("float8e8m0").kind, SABREWING_KIND_EXPONENT);
  sabrewing_element_type type{};
  EXPECT_REFUSED(sabrewing_parse_element_type("float4", &type), SABREWING_INVALID_ARGUMENT, "float4");
  EXPECT_REFUSED(sabrewing_parse_element_type(nullptr, &type), SABREWING_INVALID_ARGUMENT, "name is null");
  EXPECT_REFUSED(sabrewing_parse_element_type("int4", nullptr), SABREWING_INVALID_ARGUMENT, "type is null");
}

TEST_F(CapiTest, ContextsAreRefusedWithTheField) {
  sabrewing_context* context = nullptr;
  auto desc = sized<sabrewing_context_desc>();
  EXPECT_REFUSED(sabrewing_context_create(nullptr, &context), SABREWING_INVALID_ARGUMENT,
                 "descriptor is null");
  EXPECT_REFUSED(sabrewing_context_create(&desc, nullptr), SABREWING_INVALID_ARGUMENT, "context is null");
  EXPECT_REFUSED(sabrewing_context_create(&desc, &context), SABREWING_INVALID_ARGUMENT, "device is null");
  for (const char* device : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "CPU"}) {
    desc.device = device;
    EXPECT_REFUSED(sabrewing_context_create(&desc, &context), SABREWING_INVALID_ARGUMENT, "device \"");
  }
  desc.device = "cpu";
  desc.threads = -1;
  EXPECT_REFUSED(sabrewing_context_create(&desc, &context), SABREWING_INVALID_ARGUMENT, "threads");
  desc.threads = 100000;
  EXPECT_REFUSED(sabrewing_context_create(&desc, &context), SABREWING_INVALID_ARGUMENT, "thread count");
  desc.threads = 1;
  desc.cpu_tier = "mmx";
  EXPECT_REFUSED(sabrewing_context_create(&desc, &context), SABREWING_INVALID_ARGUMENT, "mmx");
  desc.cpu_tier = nullptr;
  desc.nvrtc_path = "/nowhere";
  EXPECT_REFUSED(sabrewing_context_create(&desc, &context), SABREWING_INVALID_ARGUMENT, "nvrtc_path");
  desc.nvrtc_path = nullptr;
  desc.reserved = 1;
  EXPECT_REFUSED(sabrewing_context_create(&desc, &context), SABREWING_INVALID_ARGUMENT, "reserved");
  EXPECT_EQ(context, nullptr);
}

TEST_F(CapiTest, StructuresMayGrow) {
  struct Longer {
    sabrewing_context_desc known;
    std::uint64_t added;
  } longer{};
  longer.known.struct_size = sizeof longer;
  longer.known.device = "cpu";
  longer.known.threads = 1;
  sabrewing_context* context = nullptr;
  EXPECT_EQ(sabrewing_context_create(&longer.known, &context), SABREWING_OK) << sabrewing_last_error();
  EXPECT_EQ(sabrewing_context_destroy(context), SABREWING_OK);
  longer.added = 5;
  EXPECT_REFUSED(sabrewing_context_create(&longer.known, &context), SABREWING_UNSUPPORTED, "is not zero");
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{8}, sizeof(sabrewing_context_desc) - 1, std::size_t{1} << 40, SIZE_MAX}) {
    longer.known.struct_size = size;
    EXPECT_REFUSED(sabrewing_context_create(&longer.known, &context), SABREWING_INVALID_ARGUMENT,
                   "struct_size");
  }
  alignas(8) char bytes[sizeof(sabrewing_context_desc) + 8] = {};
  EXPECT_REFUSED(sabrewing_context_create(reinterpret_cast<sabrewing_context_desc*>(bytes + 1), &context),
                 SABREWING_INVALID_ARGUMENT, "no multiple");
}

TEST_F(CapiTest, Handles) {
  make_plan();
  const char* text = nullptr;
  EXPECT_EQ(sabrewing_context_describe(context_, &text), SABREWING_OK);
  EXPECT_EQ(std::string(text).substr(0, 4), "cpu ");
  EXPECT_REFUSED(sabrewing_context_describe(context_, nullptr), SABREWING_INVALID_ARGUMENT, "text is null");
  EXPECT_REFUSED(sabrewing_context_describe(nullptr, &text), SABREWING_INVALID_ARGUMENT,
                 "the context is null");
  int local = 0;
  EXPECT_REFUSED(sabrewing_context_describe(reinterpret_cast<sabrewing_context*>(&local), &text),
                 SABREWING_INVALID_ARGUMENT, "no context");
  // One kind is not another.
  EXPECT_REFUSED(sabrewing_plan_explain(reinterpret_cast<sabrewing_plan*>(context_), &text),
                 SABREWING_INVALID_ARGUMENT, "no plan");
  // A plan outlives its context's handle.
  EXPECT_EQ(sabrewing_context_destroy(context_), SABREWING_OK);
  EXPECT_REFUSED(sabrewing_context_destroy(context_), SABREWING_INVALID_ARGUMENT, "destroyed");
  EXPECT_REFUSED(sabrewing_can_implement(context_, &desc_), SABREWING_INVALID_ARGUMENT, "destroyed");
  context_ = nullptr;
  EXPECT_EQ(pack(random_mxfp4(40, 96).rows()), SABREWING_OK) << sabrewing_last_error();
  EXPECT_EQ(sabrewing_plan_destroy(plan_), SABREWING_OK);
  EXPECT_REFUSED(sabrewing_plan_destroy(plan_), SABREWING_INVALID_ARGUMENT, "destroyed");
  EXPECT_REFUSED(sabrewing_plan_explain(plan_, &text), SABREWING_INVALID_ARGUMENT, "destroyed");
  EXPECT_REFUSED(run(), SABREWING_INVALID_ARGUMENT, "destroyed");
  plan_ = nullptr;
  EXPECT_EQ(sabrewing_weight_destroy(weight_), SABREWING_OK);
  EXPECT_REFUSED(sabrewing_weight_destroy(weight_), SABREWING_INVALID_ARGUMENT, "destroyed");
  weight_ = nullptr;
}

TEST_F(CapiTest, CanImplementGivesTheRule) {
  EXPECT_EQ(sabrewing_can_implement(context_, &desc_), SABREWING_OK) << sabrewing_last_error();
  desc_.k = 100;
  EXPECT_REFUSED(sabrewing_can_implement(context_, &desc_), SABREWING_UNSUPPORTED, "not a multiple of 32");
  EXPECT_REFUSED(sabrewing_plan_create(context_, &desc_, &plan_), SABREWING_UNSUPPORTED,
                 "not a multiple of 32");
  desc_.k = 96;
  desc_.output = SABREWING_F16;
  EXPECT_REFUSED(sabrewing_can_implement(context_, &desc_), SABREWING_UNSUPPORTED, "F16");
  desc_.output = SABREWING_F8_E4M3;
  EXPECT_REFUSED(sabrewing_can_implement(context_, &desc_), SABREWING_UNSUPPORTED, "F8_E4M3");
  desc_.output = SABREWING_F32;
  auto format = plain("int4");
  format.scale = element("bf16");
  format.block_n = 1;
  format.block_k = 32;
  desc_.weight = &format;
  EXPECT_REFUSED(sabrewing_can_implement(context_, &desc_), SABREWING_UNSUPPORTED, "int4 g32 bf16");
  auto activation = sized<sabrewing_activation_format>();
  activation.element = element("float8e4m3");
  activation.scale = element("fp32");
  activation.granularity = SABREWING_SCALE_TOKEN;
  desc_.weight = &format_;
  desc_.activation = &activation;
  EXPECT_REFUSED(sabrewing_can_implement(context_, &desc_), SABREWING_UNSUPPORTED, "float8e4m3");
}

TEST_F(CapiTest, DescriptorsAreChecked) {
  const sabrewing_gemm_desc good = desc_;
  const auto refused = [&](auto change, const char* part) {
    desc_ = good;
    format_ = mxfp4();
    change();
    EXPECT_REFUSED(sabrewing_can_implement(context_, &desc_), SABREWING_INVALID_ARGUMENT, part);
    EXPECT_REFUSED(sabrewing_plan_create(context_, &desc_, &plan_), SABREWING_INVALID_ARGUMENT, part);
    EXPECT_EQ(plan_, nullptr);
  };
  constexpr std::int64_t kTooMany = std::int64_t{1} << 31;
  refused([&] { desc_.struct_size = 8; }, "struct_size is 8");
  refused([&] { desc_.weight = nullptr; }, "weight format is null");
  refused([&] { format_.struct_size = 0; }, "weight format: struct_size is 0");
  refused([&] { desc_.n = 0; }, "n is 0");
  refused([&] { desc_.n = -5; }, "n is -5");
  refused([&] { desc_.n = kTooMany; }, "n is 2147483648");
  refused([&] { desc_.k = kTooMany; }, "k is 2147483648");
  refused([&] { desc_.k = INT64_MAX; }, "k is 9223372036854775807");
  refused([&] { desc_.max_m = 0; }, "max_m is 0");
  refused([&] { desc_.max_m = kTooMany; }, "max_m is 2147483648");
  refused([&] { desc_.min_m = 17; }, "min_m is 17");
  refused([&] { desc_.min_m = -1; }, "min_m is -1");
  refused([&] { desc_.n = desc_.k = kTooMany - 32; }, "more than 2^40");
  refused([&] { desc_.max_m = desc_.k = kTooMany - 32; }, "a: ");
  refused([&] { desc_.output = 0; }, "output: 0");
  refused([&] { desc_.output = 77; }, "output: 77");
  refused([&] { desc_.accuracy = 3; }, "accuracy 3");
  refused([&] { desc_.bias = 2; }, "bias is 2");
  refused([&] { desc_.reserved = 1; }, "reserved is 1");
  refused([&] { format_.element.kind = 9; }, "kind 9");
  refused([&] { format_.element.kind = SABREWING_KIND_NONE; }, "weight element");
  refused([&] { format_.element.bits = 200; }, "200 bits");
  refused([&] { format_.scale.kind = SABREWING_KIND_NONE; }, "weight scale");
  refused([&] { format_.scale = {}; }, "without a scale");
  refused([&] { format_.zero_point = 4; }, "zero_point 4");
  refused([&] { format_.block_k = -32; }, "block_k is -32");
  auto activation = sized<sabrewing_activation_format>();
  activation.element = element("bf16");
  refused(
      [&] {
        desc_.activation = &activation;
        activation.granularity = 7;
      },
      "granularity 7");
  refused(
      [&] {
        desc_.activation = &activation;
        activation.granularity = SABREWING_SCALE_TOKEN;
      },
      "lack a scale type");
  refused(
      [&] {
        desc_.activation = &activation;
        activation.granularity = SABREWING_SCALE_GROUP;
        activation.scale = element("fp32");
      },
      "activation group is 0");
}

TEST_F(CapiTest, PreferredActivation) {
  auto activation = sized<sabrewing_activation_format>();
  ASSERT_EQ(sabrewing_preferred_activation(context_, &format_, SABREWING_ACCURACY_DEFAULT, &activation),
            SABREWING_OK);
  EXPECT_EQ(activation.element.kind, SABREWING_KIND_INT);
  EXPECT_EQ(activation.element.bits, 8);
  EXPECT_EQ(activation.granularity, SABREWING_SCALE_GROUP);
  EXPECT_EQ(activation.group, 32);
  EXPECT_EQ(activation.struct_size, sizeof activation);
  desc_.activation = &activation;  // what it gives is taken
  EXPECT_EQ(sabrewing_can_implement(context_, &desc_), SABREWING_OK) << sabrewing_last_error();
  ASSERT_EQ(sabrewing_preferred_activation(context_, &format_, SABREWING_ACCURACY_EXACT, &activation),
            SABREWING_OK);
  EXPECT_EQ(activation.element.bits, 32);
  EXPECT_EQ(activation.granularity, SABREWING_SCALE_NONE);
  EXPECT_REFUSED(sabrewing_preferred_activation(context_, &format_, 5, &activation),
                 SABREWING_INVALID_ARGUMENT, "accuracy 5");
  EXPECT_REFUSED(sabrewing_preferred_activation(context_, &format_, 0, nullptr), SABREWING_INVALID_ARGUMENT,
                 "activation format is null");
  activation.struct_size = 4;
  EXPECT_REFUSED(sabrewing_preferred_activation(context_, &format_, 0, &activation),
                 SABREWING_INVALID_ARGUMENT, "struct_size is 4");
}

TEST_F(CapiTest, PlanTexts) {
  make_plan();
  const char* text = nullptr;
  ASSERT_EQ(sabrewing_plan_kernel_name(plan_, &text), SABREWING_OK);
  EXPECT_NE(std::string(text).find("mxfp4 x int8 g32"), std::string::npos) << text;
  ASSERT_EQ(sabrewing_plan_explain(plan_, &text), SABREWING_OK);
  EXPECT_NE(std::string(text).find("panels of 16 rows"), std::string::npos) << text;
  EXPECT_REFUSED(sabrewing_plan_kernel_name(plan_, nullptr), SABREWING_INVALID_ARGUMENT, "text");
  EXPECT_REFUSED(sabrewing_plan_explain(nullptr, &text), SABREWING_INVALID_ARGUMENT, "the plan is null");
  sabrewing_plan* none = nullptr;
  EXPECT_REFUSED(sabrewing_plan_create(context_, &desc_, nullptr), SABREWING_INVALID_ARGUMENT,
                 "plan is null");
  EXPECT_REFUSED(sabrewing_plan_create(nullptr, &desc_, &none), SABREWING_INVALID_ARGUMENT,
                 "the context is null");
}

TEST_F(CapiTest, PlanSizes) {
  make_plan();
  std::size_t bytes = 0;
  ASSERT_EQ(sabrewing_plan_packed_bytes(plan_, &bytes), SABREWING_OK);
  EXPECT_EQ(bytes, 3u * (64 + 96 / 2 * 16));  // 40 rows in panels of 16, scales padded to 64 bytes
  ASSERT_EQ(sabrewing_plan_workspace_bytes(plan_, 0, &bytes), SABREWING_OK);
  EXPECT_EQ(bytes, 0u);
  ASSERT_EQ(sabrewing_plan_workspace_bytes(plan_, 16, &bytes), SABREWING_OK);
  EXPECT_GT(bytes, 0u);
  EXPECT_REFUSED(sabrewing_plan_workspace_bytes(plan_, 17, &bytes), SABREWING_INVALID_ARGUMENT, "1 to 16");
  EXPECT_REFUSED(sabrewing_plan_workspace_bytes(plan_, -1, &bytes), SABREWING_INVALID_ARGUMENT, "m is -1");
  EXPECT_REFUSED(sabrewing_plan_workspace_bytes(plan_, 1, nullptr), SABREWING_INVALID_ARGUMENT,
                 "bytes is null");
  EXPECT_REFUSED(sabrewing_plan_packed_bytes(plan_, nullptr), SABREWING_INVALID_ARGUMENT, "bytes is null");
}

TEST_F(CapiTest, PackIsChecked) {
  make_plan();
  const StoredWeight stored = random_mxfp4(40, 96);
  const sabrewing_weight_rows good = stored.rows();
  const auto refused = [&](auto change, const char* part) {
    sabrewing_weight_rows rows = good;
    change(rows);
    EXPECT_REFUSED(pack(rows), SABREWING_INVALID_ARGUMENT, part);
    EXPECT_EQ(weight_, nullptr);
  };
  refused([](auto& r) { r.struct_size = 9; }, "weight rows: struct_size is 9");
  refused([](auto& r) { r.values = nullptr; }, "values are null");
  refused([](auto& r) { r.scales = nullptr; }, "scales are null");
  refused([](auto& r) { r.values_bytes -= 1; }, "are not in 1919 bytes");
  refused([](auto& r) { r.scales_bytes = 0; }, "are not in 0 bytes");
  refused([](auto& r) { r.row_stride = 47; }, "values: rows are 47 bytes apart");
  refused([](auto& r) { r.row_stride = INT64_MAX; }, "are not in");
  refused([](auto& r) { r.row_stride = -48; }, "-48");
  refused([](auto& r) { r.scale_row_stride = 4; }, "scales: ");
  refused([](auto& r) { r.rows = 39; }, "the parts have 39 rows");
  refused([](auto& r) { r.rows = 41; }, "has 41 rows");
  refused([](auto& r) { r.rows = 0; }, "has 0 rows");
  refused([](auto& r) { r.rows = -1; }, "has -1 rows");
  refused([](auto& r) { r.rows = INT64_MAX; }, "rows");

  auto source = sized<sabrewing_weight_source>();
  source.part_count = 1;
  EXPECT_REFUSED(sabrewing_weight_pack(plan_, &source, nullptr, 0, &weight_), SABREWING_INVALID_ARGUMENT,
                 "weight parts is null");
  source.parts = &good;
  source.part_count = 0;
  EXPECT_REFUSED(sabrewing_weight_pack(plan_, &source, nullptr, 0, &weight_), SABREWING_INVALID_ARGUMENT,
                 "part_count is 0");
  source.part_count = SIZE_MAX;
  EXPECT_REFUSED(sabrewing_weight_pack(plan_, &source, nullptr, 0, &weight_), SABREWING_INVALID_ARGUMENT,
                 "part_count");
  source.part_count = 1;
  EXPECT_REFUSED(sabrewing_weight_pack(plan_, &source, nullptr, 0, nullptr), SABREWING_INVALID_ARGUMENT,
                 "weight is null");
  EXPECT_REFUSED(sabrewing_weight_pack(plan_, nullptr, nullptr, 0, &weight_), SABREWING_INVALID_ARGUMENT,
                 "weight source is null");
  EXPECT_REFUSED(sabrewing_weight_pack(nullptr, &source, nullptr, 0, &weight_), SABREWING_INVALID_ARGUMENT,
                 "the plan is null");
  EXPECT_REFUSED(sabrewing_weight_pack(plan_, &source, nullptr, 10, &weight_), SABREWING_INVALID_ARGUMENT,
                 "null buffer of 10");
  std::size_t bytes = 0;
  ASSERT_EQ(sabrewing_plan_packed_bytes(plan_, &bytes), SABREWING_OK);
  const Aligned buffer = aligned(bytes);
  EXPECT_REFUSED(pack(good, buffer.get(), bytes - 1), SABREWING_INVALID_ARGUMENT, "the buffer has");
  EXPECT_REFUSED(pack(good, static_cast<char*>(buffer.get()) + 64, bytes), SABREWING_INVALID_ARGUMENT,
                 "buffer is at");

  auto unscaled = sized<sabrewing_gemm_desc>();
  unscaled = desc_;
  const auto bf16 = plain("bf16");
  unscaled.weight = &bf16;
  ASSERT_EQ(sabrewing_plan_destroy(plan_), SABREWING_OK);
  ASSERT_EQ(sabrewing_plan_create(context_, &unscaled, &plan_), SABREWING_OK) << sabrewing_last_error();
  sabrewing_weight_rows rows = random_bf16(40, 96).rows();
  const StoredWeight plain_weight = random_bf16(40, 96);
  rows = plain_weight.rows();
  rows.scales = rows.values;
  EXPECT_REFUSED(pack(rows), SABREWING_INVALID_ARGUMENT, "has no scales");
}

/// Hands over what it is given; no kernel behind it.
class AnyMemory final : public capi::DeviceContext {
 public:
  const std::string& device() const override { return name_; }
  std::string description() const override { return name_; }
  Feasibility can_implement(const kernels::GemmDesc&) const override { return Feasibility::yes(); }
  formats::ActivationFormat preferred_activation(const formats::WeightFormat&,
                                                 kernels::Accuracy) const override {
    return formats::ActivationFormat::bf16();
  }
  kernels::GemmPlanPtr plan(const kernels::GemmDesc&) override { return nullptr; }
  std::size_t packed_bytes(const kernels::GemmPlan&) const override { return 0; }
  kernels::PackedWeight pack(const kernels::GemmPlan&, const kernels::WeightSource&,
                             kernels::DeviceBuffer) override {
    return {};
  }
  kernels::PackedWeight copy(const kernels::PackedWeight&, kernels::DeviceBuffer) override { return {}; }
  void check_memory(const void*, const char*) const override {}
  void check_host_memory(const void*, const char*) const override {}
  bool takes_quantized() const override { return false; }
  void enqueue(const kernels::GemmPlan&, const kernels::GemmArgs&, void*, bool) override {}

 private:
  std::string name_ = "any";
};

TEST_F(CapiTest, SourcesWithZeroPointsAndBlocks) {
  const AnyMemory context;
  kernels::GemmDesc desc;
  desc.n = 200;
  desc.k = 256;
  // uint3 in groups of 64: 96 bytes of codes, 4 BF16 scales, 4 zero points of 3 bits in two bytes.
  desc.weight =
      formats::WeightFormat::scaled(formats::ElementType::unsigned_integer(3), {1, 64}, formats::kBF16);
  desc.weight.zero_point = formats::ZeroPoint::kInteger;
  const std::vector<std::uint8_t> bytes(200 * 96);
  auto rows = sized<sabrewing_weight_rows>();
  rows.values = rows.scales = rows.zeros = bytes.data();
  rows.values_bytes = 200 * 96;
  rows.scales_bytes = 200 * 8;
  rows.zeros_bytes = 200 * 2;
  rows.rows = 200;
  auto source = sized<sabrewing_weight_source>();
  source.parts = &rows;
  source.part_count = 1;
  kernels::WeightRows out = capi::to_source(desc, context, &source).parts.at(0);
  EXPECT_EQ(out.row_stride, 96);
  EXPECT_EQ(out.scale_row_stride, 8);
  EXPECT_EQ(out.zero_row_stride, 2);
  EXPECT_EQ(out.rows_per_scale, 1);
  EXPECT_EQ(static_cast<const void*>(out.zeros), bytes.data());
  const auto refused = [&](const char* part) {
    try {
      capi::to_source(desc, context, &source);
      FAIL() << part;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  rows.zeros_bytes = 399;
  refused("zeros: 200 rows of 2 bytes");
  rows.zeros = nullptr;
  refused("zeros are null");
  // Blocks of 128 by 128: two rows of two FP32 scales.
  desc.weight = formats::WeightFormat::scaled(formats::kE4M3, {128, 128}, formats::kFP32);
  const std::vector<std::uint8_t> codes(200 * 256);
  rows.values = codes.data();
  rows.values_bytes = codes.size();
  rows.scales_bytes = 16;
  rows.zeros_bytes = 0;
  out = capi::to_source(desc, context, &source).parts.at(0);
  EXPECT_EQ(out.rows_per_scale, 128);
  EXPECT_EQ(out.scale_row_stride, 8);
  rows.scales_bytes = 15;
  refused("scales: 2 rows of 8 bytes");
  rows.scales_bytes = 16;
  rows.zeros = codes.data();
  refused("has no zero points");
  rows.zeros = nullptr;
  source.second_scale = 2;
  refused("second_scale is 2: 0 expected");
  // One scale for the tensor, and a second one above it.
  desc.weight = formats::WeightFormat::scaled(formats::kE4M3, {0, 0}, formats::kFP32);
  desc.weight.second_scale = formats::kFP32;
  rows.scales_bytes = 4;
  EXPECT_EQ(capi::to_source(desc, context, &source).second_scale, 2);
  EXPECT_EQ(capi::to_source(desc, context, &source).parts.at(0).rows_per_scale, 200);
  source.second_scale = 0;
  refused("second_scale is 0: a finite number");
}

TEST_F(CapiTest, BuffersOfTheCallerAndOfTheLibraryHoldTheSame) {
  make_plan();
  const StoredWeight stored = random_mxfp4(40, 96);
  std::size_t bytes = 0;
  ASSERT_EQ(sabrewing_plan_packed_bytes(plan_, &bytes), SABREWING_OK);
  const Aligned buffer = aligned(bytes);
  std::memset(buffer.get(), 0xab, bytes + 256);
  ASSERT_EQ(pack(stored.rows(), buffer.get(), bytes), SABREWING_OK) << sabrewing_last_error();
  const void* data = nullptr;
  std::size_t size = 0;
  ASSERT_EQ(sabrewing_weight_data(weight_, &data, &size), SABREWING_OK);
  EXPECT_EQ(data, buffer.get());
  EXPECT_EQ(size, bytes);
  EXPECT_EQ(static_cast<unsigned char*>(buffer.get())[bytes], 0xab);
  sabrewing_weight* first = weight_;
  ASSERT_EQ(pack(stored.rows()), SABREWING_OK) << sabrewing_last_error();
  ASSERT_EQ(sabrewing_weight_data(weight_, &data, &size), SABREWING_OK);
  EXPECT_EQ(std::memcmp(data, buffer.get(), bytes), 0);
  sabrewing_weight* copy = nullptr;
  std::memset(buffer.get(), 0, bytes);
  EXPECT_REFUSED(sabrewing_weight_copy(weight_, buffer.get(), bytes - 1, &copy), SABREWING_INVALID_ARGUMENT,
                 "the buffer has");
  EXPECT_REFUSED(sabrewing_weight_copy(first, buffer.get(), bytes, &copy), SABREWING_INVALID_ARGUMENT,
                 "the weight's own");
  EXPECT_REFUSED(sabrewing_weight_copy(nullptr, nullptr, 0, &copy), SABREWING_INVALID_ARGUMENT,
                 "weight is null");
  EXPECT_REFUSED(sabrewing_weight_copy(weight_, nullptr, 0, nullptr), SABREWING_INVALID_ARGUMENT,
                 "copy is null");
  EXPECT_EQ(copy, nullptr);
  ASSERT_EQ(sabrewing_weight_copy(weight_, buffer.get(), bytes, &copy), SABREWING_OK)
      << sabrewing_last_error();
  EXPECT_EQ(std::memcmp(data, buffer.get(), bytes), 0);
  EXPECT_EQ(sabrewing_weight_destroy(copy), SABREWING_OK);
  ASSERT_EQ(sabrewing_weight_copy(weight_, nullptr, 0, &copy), SABREWING_OK) << sabrewing_last_error();
  const void* copied = nullptr;
  ASSERT_EQ(sabrewing_weight_data(copy, &copied, &size), SABREWING_OK);
  EXPECT_NE(copied, data);
  EXPECT_EQ(std::memcmp(data, copied, bytes), 0);
  EXPECT_EQ(sabrewing_weight_destroy(copy), SABREWING_OK);
  EXPECT_EQ(sabrewing_weight_destroy(first), SABREWING_OK);
  EXPECT_REFUSED(sabrewing_weight_data(weight_, nullptr, &size), SABREWING_INVALID_ARGUMENT, "data is null");
  EXPECT_REFUSED(sabrewing_weight_data(weight_, &data, nullptr), SABREWING_INVALID_ARGUMENT, "bytes is null");
  EXPECT_REFUSED(sabrewing_weight_data(first, &data, &size), SABREWING_INVALID_ARGUMENT, "destroyed");
}

/// Largest |c - reference| in units of the root mean square of the reference.
double worst(const std::vector<float>& c, const StoredWeight& weight, const std::vector<float>& a,
             std::int64_t m, const std::vector<float>& bias = {}) {
  double square = 0;
  double error = 0;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < weight.n; ++j) {
      double sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(j)];
      for (std::int64_t k = 0; k < weight.k; ++k)
        sum += double{a[static_cast<std::size_t>(i * weight.k + k)]} *
               weight.numbers[static_cast<std::size_t>(j * weight.k + k)];
      square += sum * sum;
      error = std::max(error, std::abs(sum - c[static_cast<std::size_t>(i * weight.n + j)]));
    }
  return error / std::sqrt(square / static_cast<double>(m * weight.n));
}

TEST_F(CapiTest, ProductsMatchDoublePrecision) {
  const StoredWeight stored = random_mxfp4(desc_.n, desc_.k);
  std::vector<float> bias = random_floats(desc_.n);
  desc_.bias = 1;
  desc_.accuracy = SABREWING_ACCURACY_EXACT;
  make_call(stored, 7);
  args_.bias = bias.data();
  ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
  EXPECT_LT(worst(c_, stored, a_, 7, bias), 1e-5);

  ASSERT_EQ(sabrewing_weight_destroy(weight_), SABREWING_OK);
  ASSERT_EQ(sabrewing_plan_destroy(plan_), SABREWING_OK);
  desc_.bias = 0;
  desc_.accuracy = SABREWING_ACCURACY_DEFAULT;
  make_call(stored, 7);
  ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
  EXPECT_LT(worst(c_, stored, a_, 7), 3e-2);  // int8 activations
  EXPECT_GT(worst(c_, stored, a_, 7), 1e-6);
}

TEST_F(CapiTest, ProductsAreThoseOfTheCppInterface) {
  namespace cpu = kernels::cpu;
  const StoredWeight stored = random_bf16(desc_.n, 75);
  const auto bf16 = plain("bf16");
  desc_.weight = &bf16;
  desc_.k = 75;
  make_call(stored, 16);
  ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();

  ThreadPool pool(1);
  const cpu::Gemm gemm(cpu::best_tier(cpu::cpu_features()), cpu::cpu_features(), pool);
  kernels::GemmDesc desc;
  desc.weight = formats::WeightFormat::bf16();
  desc.activation = gemm.preferred_activation(desc.weight, kernels::Accuracy::kDefault);
  desc.output = DType::kF32;
  desc.n = desc_.n;
  desc.k = 75;
  const auto plan = gemm.plan(desc);
  kernels::WeightSource source{desc.weight, 75, {}};
  source.parts.push_back(
      {reinterpret_cast<const std::byte*>(stored.values.data()), 150, nullptr, 0, desc_.n});
  const kernels::PackedWeight weight = gemm.pack(*plan, source);
  std::vector<float> expected(c_.size());
  kernels::GemmArgs args;
  args.a = {a_.data(), DType::kF32, 16, 75, 75};
  args.b = &weight;
  args.c = {expected.data(), DType::kF32, 16, desc_.n, desc_.n};
  const Aligned workspace = aligned(plan->workspace_bytes(16));
  args.workspace = workspace.get();
  gemm.run(*plan, args);
  EXPECT_EQ(c_, expected);
}

TEST_F(CapiTest, PartsAndStrides) {
  // Even rows, then odd ones, of an interleaved tensor.
  const StoredWeight stored = random_mxfp4(40, 96);
  desc_.accuracy = SABREWING_ACCURACY_EXACT;
  make_call(stored, 3);
  ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
  const std::vector<float> straight = c_;
  sabrewing_weight_rows parts[3] = {stored.rows(), stored.rows(), {}};
  for (sabrewing_weight_rows& part : std::span(parts, 2)) {
    part.rows = 20;
    part.row_stride = 2 * 48;
    part.scale_row_stride = 2 * 3;
  }
  parts[1].values = stored.values.data() + 48;
  parts[1].values_bytes -= 48;
  parts[1].scales = stored.scales.data() + 3;
  parts[1].scales_bytes -= 3;
  auto source = sized<sabrewing_weight_source>();
  source.parts = parts;
  source.part_count = 2;
  ASSERT_EQ(sabrewing_weight_destroy(weight_), SABREWING_OK);
  ASSERT_EQ(sabrewing_weight_pack(plan_, &source, nullptr, 0, &weight_), SABREWING_OK)
      << sabrewing_last_error();
  args_.b = weight_;
  std::vector<float> wide_a(3 * 100);
  for (std::size_t i = 0; i < 3; ++i) std::copy_n(a_.begin() + i * 96, 96, wide_a.begin() + i * 100);
  std::vector<float> wide_c(3 * 50, -7.0f);
  args_.a = wide_a.data();
  args_.a_stride = 100;
  args_.c = wide_c.data();
  args_.c_stride = 50;
  ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 50; ++j) {
      const std::size_t row = j < 20 ? 2 * j : 2 * (j - 20) + 1;
      EXPECT_EQ(wide_c[i * 50 + j], j < 40 ? straight[i * 40 + row] : -7.0f) << i << " " << j;
    }
  parts[1].struct_size = sizeof(sabrewing_weight_rows) + 8;
  EXPECT_REFUSED(sabrewing_weight_pack(plan_, &source, nullptr, 0, &weight_), SABREWING_INVALID_ARGUMENT,
                 "that of the first");
  weight_ = nullptr;
}

TEST_F(CapiTest, Bf16InAndOut) {
  const StoredWeight stored = random_mxfp4(40, 96);
  desc_.output = SABREWING_BF16;
  desc_.accuracy = SABREWING_ACCURACY_EXACT;
  make_call(stored, 4);
  std::vector<std::uint16_t> a(a_.size());
  for (std::size_t i = 0; i < a.size(); ++i) a_[i] = from_bf16(a[i] = to_bf16(a_[i]));
  std::vector<std::uint16_t> c(c_.size());
  args_.a = a.data();
  args_.a_dtype = SABREWING_BF16;
  args_.c = c.data();
  ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
  for (std::size_t i = 0; i < c.size(); ++i) c_[i] = from_bf16(c[i]);
  EXPECT_LT(worst(c_, stored, a_, 4), 2e-2);
}

TEST_F(CapiTest, CallsAreChecked) {
  make_call(random_mxfp4(40, 96), 5);
  ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
  const sabrewing_gemm_args good = args_;
  std::fill(c_.begin(), c_.end(), -1.0f);
  const auto refused = [&](auto change, const char* part) {
    args_ = good;
    change();
    EXPECT_REFUSED(run(), SABREWING_INVALID_ARGUMENT, part);
  };
  float bias[40] = {};
  refused([&] { args_.struct_size = 3; }, "struct_size is 3");
  refused([&] { args_.a = nullptr; }, "a is null");
  refused([&] { args_.c = nullptr; }, "c is null");
  refused([&] { args_.a = reinterpret_cast<const char*>(good.a) + 2; }, "a is at");
  refused([&] { args_.c = reinterpret_cast<char*>(good.c) + 1; }, "c is at");
  refused([&] { args_.b = nullptr; }, "the weight is null");
  refused([&] { args_.b = reinterpret_cast<sabrewing_weight*>(context_); }, "no weight");
  refused([&] { args_.m = -1; }, "m is -1");
  refused([&] { args_.m = 17; }, "1 to 16");
  refused([&] { args_.m = std::int64_t{1} << 31; }, "m is 2147483648");
  refused([&] { args_.a_stride = 95; }, "a_stride is 95");
  refused([&] { args_.a_stride = -96; }, "a_stride is -96");
  refused([&] { args_.a_stride = INT64_MAX; }, "a_stride");
  refused([&] { args_.c_stride = 39; }, "c_stride is 39");
  refused([&] { args_.a_dtype = 0; }, "a_dtype");
  refused([&] { args_.a_dtype = SABREWING_F16; }, "F16");
  refused([&] { args_.a_dtype = SABREWING_F8_E4M3; }, "F8_E4M3");
  refused([&] { args_.a_dtype = SABREWING_I8; }, "I8");
  refused([&] { args_.a_dtype = 7; }, "7 is no sabrewing_dtype");
  refused([&] { args_.a_scales = bias; },
          "a_scales are given: on cpu the plan's int8 g32 fp32 activations have none");
  refused([&] { args_.bias = bias; }, "without bias");
  refused([&] { args_.workspace = nullptr; }, "workspace is null");
  refused([&] { args_.workspace = static_cast<char*>(good.workspace) + 4; }, "workspace is at");
  refused([&] { args_.workspace_bytes = 16; }, "the workspace has 16 bytes");
  refused([&] { args_.overlap = 2; }, "overlap is 2");
  args_ = good;
  EXPECT_REFUSED(sabrewing_gemm_enqueue(plan_, nullptr, nullptr), SABREWING_INVALID_ARGUMENT,
                 "arguments is null");
  EXPECT_REFUSED(sabrewing_gemm_enqueue(nullptr, &args_, nullptr), SABREWING_INVALID_ARGUMENT,
                 "the plan is null");
  EXPECT_REFUSED(sabrewing_gemm_enqueue(plan_, &args_, bias), SABREWING_INVALID_ARGUMENT, "stream");
  for (const float value : c_) ASSERT_EQ(value, -1.0f);  // nothing was written
  // No rows: nothing to do, whatever the operands are.
  args_.m = 0;
  args_.a = nullptr;
  args_.c = nullptr;
  EXPECT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
}

TEST_F(CapiTest, CallsOfTheFirstVersion) {
  make_call(random_mxfp4(40, 96), 5);
  ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
  const std::vector<float> expected = c_;
  std::fill(c_.begin(), c_.end(), -1.0f);
  args_.struct_size = 88;
  args_.a_scales = &args_;  // behind the structure
  ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
  EXPECT_EQ(c_, expected);
}

TEST_F(CapiTest, AWeightOfAnotherShape) {
  make_call(random_mxfp4(40, 96), 5);
  sabrewing_plan* other = nullptr;
  desc_.n = 41;
  ASSERT_EQ(sabrewing_plan_create(context_, &desc_, &other), SABREWING_OK);
  std::vector<float> c(5 * 41);
  args_.c = c.data();
  EXPECT_REFUSED(sabrewing_gemm_enqueue(other, &args_, nullptr), SABREWING_INVALID_ARGUMENT,
                 "(41, 96) expected");
  EXPECT_EQ(sabrewing_plan_destroy(other), SABREWING_OK);
}

TEST_F(CapiTest, ThreadsTakeTurns) {
  make_call(random_mxfp4(40, 96), 16);
  ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
  const std::vector<float> expected = c_;
  std::vector<std::thread> threads;
  std::vector<int> failures(4);
  for (std::size_t t = 0; t < failures.size(); ++t)
    threads.emplace_back([&, t] {
      std::vector<float> c(c_.size());
      const Aligned workspace = aligned(args_.workspace_bytes);
      sabrewing_gemm_args args = args_;
      args.c = c.data();
      args.workspace = workspace.get();
      for (int i = 0; i < 50; ++i)
        if (sabrewing_gemm_enqueue(plan_, &args, nullptr) != SABREWING_OK || c != expected) ++failures[t];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, std::vector<int>(4));
}

TEST_F(CapiTest, CudaWithoutADriverIsAStatus) {
  auto desc = sized<sabrewing_context_desc>();
  desc.device = "cuda:0";
  sabrewing_context* context = nullptr;
  const int status = sabrewing_context_create(&desc, &context);
  if (status == SABREWING_OK) {
    EXPECT_EQ(sabrewing_context_destroy(context), SABREWING_OK);
    desc.device = "cuda:1000";
    EXPECT_REFUSED(sabrewing_context_create(&desc, &context), SABREWING_INVALID_ARGUMENT, "no GPU 1000");
    GTEST_SKIP() << "this machine has a GPU";
  }
  EXPECT_EQ(status, SABREWING_DEVICE) << sabrewing_last_error();
  EXPECT_EQ(context, nullptr);
  const std::string message = sabrewing_last_error();
  EXPECT_TRUE(message.find("libcuda.so.1") != std::string::npos ||
              message.find("[driver]") != std::string::npos)
      << message;
  // The same again, not a crash on the second try.
  EXPECT_EQ(sabrewing_context_create(&desc, &context), SABREWING_DEVICE);
  EXPECT_EQ(message, sabrewing_last_error());
}

}  // namespace
}  // namespace sabrewing::testing
