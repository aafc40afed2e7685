#include "kernels/cuda/backend/kernel_unit.h"

namespace sabrewing::embedded {
extern const EmbeddedFile kCudaOpDevice[];
extern const std::size_t kCudaOpDeviceCount;
}  // namespace sabrewing::embedded

namespace sabrewing::kernels::cuda {

namespace {

std::shared_ptr<const jit::HeaderSet> op_headers() {
  static const auto kHeaders = std::make_shared<const jit::HeaderSet>(
      std::span(embedded::kCudaOpDevice, embedded::kCudaOpDeviceCount), "../device/");
  return kHeaders;
}

jit::KernelSource source_of(std::string name, std::initializer_list<std::string_view> headers,
                            jit::Architecture architecture) {
  jit::KernelSource source;
  source.name = std::move(name);
  for (const std::string_view header : headers) source.source += fmt::format("#include \"ops/{}\"\n", header);
  source.source += "using namespace sabrewing::device;\n";
  source.headers = op_headers();
  source.architecture = architecture;
  return source;
}

}  // namespace

DeviceBuffer Context::allocate(std::size_t bytes) const {
  device->make_current();
  auto buffer = std::make_shared<jit::DeviceBuffer>(device, bytes);
  DeviceBuffer result;
  result.data = buffer->data();
  result.bytes = bytes;
  result.owner = std::move(buffer);
  return result;
}

jit::LaunchConfig Context::config(std::int64_t grid_x, std::int64_t grid_y, unsigned block) const {
  jit::LaunchConfig config;
  config.grid = {static_cast<unsigned>(grid_x), static_cast<unsigned>(grid_y), 1};
  config.block = {block, 1, 1};
  config.stream = stream;
  return config;
}

std::string_view device_type(DType dtype) { return dtype == DType::kBF16 ? "Bf16" : "float"; }

DType cache_type(DType activation) { return activation; }

jit::KernelSource ops_source(DType activation, jit::Architecture architecture) {
  const std::string_view act = device_type(activation);
  const std::string_view cache = device_type(cache_type(activation));
  jit::KernelSource source = source_of(fmt::format("model operations {}", to_string(activation)),
                                       {"elementwise.cuh", "attention.cuh", "moe.cuh"}, architecture);
  source.expressions = {fmt::format("rms_norm<{0}, {0}>", act),
                        fmt::format("add<{}>", act),
                        fmt::format("glu<{}>", act),
                        fmt::format("rope<{}>", act),
                        "gather_rows<float>",
                        fmt::format("write_cache<{}, {}>", act, cache),
                        fmt::format("attend<{}, {}>", act, cache),
                        "route",
                        "group_by_expert",
                        fmt::format("combine<{}>", act)};
  if (activation != DType::kF32) {
    source.expressions.push_back(fmt::format("rms_norm<float, {}>", act));
    source.expressions.push_back(fmt::format("gather_rows<{}>", act));
  }
  return source;
}

RowWeight row_weight(const formats::WeightFormat& format) {
  using formats::WeightFormat;
  if (format == WeightFormat::bf16()) return {Feasibility::yes(), "Bf16Weight"};
  if (format == WeightFormat::fp16()) return {Feasibility::yes(), "Fp16Weight"};
  if (format == WeightFormat::fp32()) return {Feasibility::yes(), "Fp32Weight"};
  if (format == WeightFormat::mxfp4()) return {Feasibility::yes(), "Mxfp4Weight"};
  return {Feasibility::no(
              fmt::format("the CUDA backend multiplies bf16, fp16, fp32 and mxfp4 weights; this is {}",
                          formats::to_string(format))),
          {}};
}

std::string linear_expression(std::string_view decoder, DType activation, DType output, bool gated) {
  return fmt::format("linear<{}, {}, {}, {}>", decoder, device_type(activation), device_type(output), gated);
}

jit::KernelSource linear_source(const formats::WeightFormat& format, DType activation,
                                jit::Architecture architecture) {
  const RowWeight weight = row_weight(format);
  SABREWING_CHECK(weight.feasible.ok, kUnsupported, "[cuda] {}", weight.feasible.reason);
  jit::KernelSource source =
      source_of(fmt::format("linear {} x {}", formats::to_string(format), to_string(activation)),
                {"linear.cuh"}, architecture);
  source.expressions = {linear_expression(weight.decoder, activation, activation, false),
                        linear_expression(weight.decoder, activation, activation, true),
                        fmt::format("embed<{}>", weight.decoder)};
  if (activation != DType::kF32)
    source.expressions.push_back(linear_expression(weight.decoder, activation, DType::kF32, false));
  return source;
}

KernelUnit::KernelUnit(Context& context, const jit::KernelSource& source)
    : compiled_(context.compiler.compile(source)), module_(context.device, compiled_->cubin, source.name) {}

jit::Kernel KernelUnit::kernel(std::string_view expression) const {
  return module_.kernel(compiled_->function(expression).lowered_name, expression);
}

}  // namespace sabrewing::kernels::cuda
