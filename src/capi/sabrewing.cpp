#include "sabrewing/sabrewing.h"

#include <memory>
#include <string>
#include <utility>

#include "capi/descriptors.h"
#include "capi/device_context.h"
#include "capi/handle_table.h"
#include "capi/status.h"
#include "core/log.h"

namespace sabrewing::capi {
namespace {

constexpr std::size_t kBufferAlignment = 256;
constexpr std::size_t kWorkspaceAlignment = 64;

struct Context {
  std::shared_ptr<DeviceContext> device;
  std::string description;
};

/// Runs `body` with the device current, for what destructors give back.
template <typename Body>
void release(const std::shared_ptr<DeviceContext>& device, Body&& body) noexcept {
  if (device == nullptr) return;
  try {
    const Current current(*device);
    std::forward<Body>(body)();
  } catch (const std::exception& error) {
    log(LogLevel::kDebug, "at the end of a handle: {}", error.what());
  }
}

struct Plan {
  ~Plan() {
    release(device, [this] { plan.reset(); });
  }

  std::shared_ptr<DeviceContext> device;
  kernels::GemmPlanPtr plan;
  std::int64_t min_m = 1;
  std::int64_t max_m = 1;
  std::string kernel_name;
  std::string explanation;
};

struct Weight {
  ~Weight() {
    release(device, [this] { packed = {}; });
  }

  std::shared_ptr<DeviceContext> device;
  kernels::PackedWeight packed;
};

/// Handles that the caller keeps until the process ends stay valid while it ends.
struct Tables {
  HandleTable<Context, sabrewing_context> contexts{"context"};
  HandleTable<Plan, sabrewing_plan> plans{"plan"};
  HandleTable<Weight, sabrewing_weight> weights{"weight"};
};

Tables& tables() {
  static Tables& all = *new Tables;
  return all;
}

template <typename T>
void check_out(T* out, const char* what) {
  check_pointer(out, alignof(T), what);
}

void check_rows(const Plan& plan, std::int64_t m) {
  SABREWING_CHECK(m >= plan.min_m && m <= plan.max_m, kInvalidArgument,
                  "[gemm] m is {}: the plan is for {} to {}", m, plan.min_m, plan.max_m);
}

kernels::Matrix to_matrix(const void* data, DType dtype, std::int64_t rows, std::int64_t columns,
                          std::int64_t stride, const char* what, const char* stride_name) {
  check_pointer(data, size_of(dtype), what);
  return {const_cast<void*>(data), dtype, rows, columns, checked_stride(stride, columns, rows, stride_name)};
}

/// Memory of the caller for `needed` packed bytes; nothing when `buffer` is null.
kernels::DeviceBuffer to_buffer(const DeviceContext& device, void* buffer, std::size_t bytes,
                                std::size_t needed) {
  if (buffer == nullptr) {
    SABREWING_CHECK(bytes == 0, kInvalidArgument, "[pack] a null buffer of {} bytes", bytes);
    return {};
  }
  check_pointer(buffer, kBufferAlignment, "buffer");
  SABREWING_CHECK(bytes >= needed, kInvalidArgument, "[pack] the buffer has {} bytes, {} are needed", bytes,
                  needed);
  device.check_memory(buffer, "buffer");
  return {nullptr, buffer, bytes};
}

/// The scales of a call's activations; null exactly when the plan's are not quantized by the caller.
const void* checked_scales(const Plan& plan, const void* scales) {
  const formats::ActivationFormat& activation = plan.plan->desc().activation;
  const bool needed = activation.scale.has_value() && plan.device->takes_quantized();
  SABREWING_CHECK((scales != nullptr) == needed, kInvalidArgument,
                  "[gemm] a_scales are {}: on {} the plan's {} activations {}",
                  scales != nullptr ? "given" : "null", plan.device->device(), formats::to_string(activation),
                  needed ? "need them" : "have none");
  if (needed) check_pointer(scales, activation.scale->bits / 8u, "a_scales");
  return scales;
}

void enqueue(const Plan& plan, const sabrewing_gemm_args* from, void* stream) {
  const auto in = read_descriptor(from, "gemm arguments");
  if (in.m == 0) return;
  check_rows(plan, in.m);
  const kernels::GemmDesc& desc = plan.plan->desc();
  const std::shared_ptr<Weight> weight = tables().weights.find(in.b);
  SABREWING_CHECK(weight->device->device() == plan.device->device(), kInvalidArgument,
                  "[gemm] the weight is on {}, the plan on {}", weight->device->device(),
                  plan.device->device());
  SABREWING_CHECK((in.bias != nullptr) == desc.bias, kInvalidArgument,
                  "[gemm] the plan is {} bias, the call {}", desc.bias ? "with" : "without",
                  in.bias != nullptr ? "with" : "without");
  kernels::GemmArgs args;
  args.a = to_matrix(in.a, to_dtype(in.a_dtype, "a_dtype"), in.m, desc.k, in.a_stride, "a", "a_stride");
  args.c = to_matrix(in.c, desc.output, in.m, desc.n, in.c_stride, "c", "c_stride");
  args.a_scales = checked_scales(plan, in.a_scales);
  args.b = &weight->packed;
  if (desc.bias) check_pointer(in.bias, alignof(float), "bias");
  args.bias = in.bias;
  const std::size_t needed = plan.plan->workspace_bytes(in.m);
  if (needed != 0) check_pointer(in.workspace, kWorkspaceAlignment, "workspace");
  SABREWING_CHECK(in.workspace_bytes >= needed, kInvalidArgument,
                  "[gemm] the workspace has {} bytes, {} rows need {}", in.workspace_bytes, in.m, needed);
  args.workspace = in.workspace;
  SABREWING_CHECK(in.overlap == 0 || in.overlap == 1, kInvalidArgument,
                  "[gemm] overlap is {}: 0 or 1 expected", in.overlap);
  const Current current(*plan.device);
  plan.device->check_memory(in.a, "a");
  plan.device->check_memory(in.c, "c");
  if (in.a_scales != nullptr) plan.device->check_memory(in.a_scales, "a_scales");
  if (in.bias != nullptr) plan.device->check_memory(in.bias, "bias");
  plan.device->enqueue(*plan.plan, args, stream, in.overlap == 1);
}

}  // namespace
}  // namespace sabrewing::capi

using sabrewing::ErrorCode;
using sabrewing::LogLevel;
using namespace sabrewing::capi;  // NOLINT(google-build-using-namespace)

uint32_t sabrewing_abi_version(void) { return SABREWING_ABI_VERSION; }

const char* sabrewing_version(void) { return SABREWING_VERSION; }

const char* sabrewing_status_name(int32_t status) {
  static constexpr const char* kNames[] = {"ok",      "invalid_argument", "unsupported", "not_found", "io",
                                           "corrupt", "out_of_memory",    "device",      "internal"};
  return status >= 0 && status < static_cast<int32_t>(std::size(kNames)) ? kNames[status] : "unknown";
}

const char* sabrewing_last_error(void) { return last_error(); }

sabrewing_status sabrewing_set_log_callback(sabrewing_log_callback callback, void* user) {
  return guarded([&] {
    if (callback == nullptr) {
      sabrewing::set_log_sink({});
      return;
    }
    sabrewing::set_log_sink([callback, user](LogLevel level, std::string_view message) {
      callback(static_cast<int32_t>(level), std::string(message).c_str(), user);
    });
  });
}

sabrewing_status sabrewing_parse_element_type(const char* name, sabrewing_element_type* type) {
  return guarded([&] {
    check_out(name, "name");
    check_out(type, "type");
    const auto parsed = sabrewing::formats::parse_element_type(name);
    SABREWING_CHECK(parsed.has_value(), kInvalidArgument,
                    "[format] \"{}\" is no element type; such are int4, uint3, float4e2m1, float8e8m0, bf16",
                    name);
    *type = to_element(*parsed);
  });
}

sabrewing_status sabrewing_context_create(const sabrewing_context_desc* desc, sabrewing_context** context) {
  return guarded([&] {
    check_out(context, "context");
    *context = nullptr;
    auto opened = std::make_shared<Context>();
    opened->device = open_context(desc);
    opened->description = opened->device->description();
    *context = tables().contexts.insert(std::move(opened));
  });
}

sabrewing_status sabrewing_context_destroy(sabrewing_context* context) {
  if (context == nullptr) return SABREWING_OK;
  return guarded([&] { tables().contexts.remove(context); });
}

sabrewing_status sabrewing_context_describe(const sabrewing_context* context, const char** text) {
  return guarded([&] {
    check_out(text, "text");
    *text = tables().contexts.find(context)->description.c_str();
  });
}

sabrewing_status sabrewing_can_implement(const sabrewing_context* context, const sabrewing_gemm_desc* desc) {
  return guarded([&] {
    const auto found = tables().contexts.find(context);
    const Problem problem = to_problem(*found->device, desc);
    if (const sabrewing::Feasibility feasible = found->device->can_implement(problem.desc); !feasible)
      sabrewing::fail(ErrorCode::kUnsupported, "[gemm] {}", feasible.reason);
  });
}

sabrewing_status sabrewing_preferred_activation(const sabrewing_context* context,
                                                const sabrewing_weight_format* weight, int32_t accuracy,
                                                sabrewing_activation_format* activation) {
  return guarded([&] {
    const auto found = tables().contexts.find(context);
    const auto format = to_weight_format(weight);
    write_activation_format(found->device->preferred_activation(format, to_accuracy(accuracy)), activation);
  });
}

sabrewing_status sabrewing_plan_create(const sabrewing_context* context, const sabrewing_gemm_desc* desc,
                                       sabrewing_plan** plan) {
  return guarded([&] {
    check_out(plan, "plan");
    *plan = nullptr;
    auto made = std::make_shared<Plan>();
    made->device = tables().contexts.find(context)->device;
    const Problem problem = to_problem(*made->device, desc);
    const Current current(*made->device);
    made->plan = made->device->plan(problem.desc);
    made->min_m = problem.min_m;
    made->max_m = problem.max_m;
    made->kernel_name = made->plan->kernel_name();
    made->explanation = made->plan->explain();
    *plan = tables().plans.insert(std::move(made));
  });
}

sabrewing_status sabrewing_plan_destroy(sabrewing_plan* plan) {
  if (plan == nullptr) return SABREWING_OK;
  return guarded([&] { tables().plans.remove(plan); });
}

sabrewing_status sabrewing_plan_kernel_name(const sabrewing_plan* plan, const char** text) {
  return guarded([&] {
    check_out(text, "text");
    *text = tables().plans.find(plan)->kernel_name.c_str();
  });
}

sabrewing_status sabrewing_plan_explain(const sabrewing_plan* plan, const char** text) {
  return guarded([&] {
    check_out(text, "text");
    *text = tables().plans.find(plan)->explanation.c_str();
  });
}

sabrewing_status sabrewing_plan_workspace_bytes(const sabrewing_plan* plan, int64_t m, size_t* bytes) {
  return guarded([&] {
    check_out(bytes, "bytes");
    const auto found = tables().plans.find(plan);
    if (m != 0) check_rows(*found, m);
    *bytes = found->plan->workspace_bytes(m);
  });
}

sabrewing_status sabrewing_plan_packed_bytes(const sabrewing_plan* plan, size_t* bytes) {
  return guarded([&] {
    check_out(bytes, "bytes");
    const auto found = tables().plans.find(plan);
    *bytes = found->device->packed_bytes(*found->plan);
  });
}

sabrewing_status sabrewing_weight_pack(const sabrewing_plan* plan, const sabrewing_weight_source* source,
                                       void* buffer, size_t buffer_bytes, sabrewing_weight** weight) {
  return guarded([&] {
    check_out(weight, "weight");
    *weight = nullptr;
    const auto found = tables().plans.find(plan);
    const Current current(*found->device);
    sabrewing::kernels::DeviceBuffer to =
        to_buffer(*found->device, buffer, buffer_bytes, found->device->packed_bytes(*found->plan));
    auto made = std::make_shared<Weight>();
    made->device = found->device;
    made->packed = found->device->pack(*found->plan, to_source(found->plan->desc(), *found->device, source),
                                       std::move(to));
    *weight = tables().weights.insert(std::move(made));
  });
}

sabrewing_status sabrewing_weight_copy(const sabrewing_weight* weight, void* buffer, size_t buffer_bytes,
                                       sabrewing_weight** copy) {
  return guarded([&] {
    check_out(copy, "copy");
    *copy = nullptr;
    const auto found = tables().weights.find(weight);
    const Current current(*found->device);
    sabrewing::kernels::DeviceBuffer to =
        to_buffer(*found->device, buffer, buffer_bytes, found->packed.expert_stride_bytes);
    SABREWING_CHECK(to.data == nullptr || to.data != found->packed.bytes.data, kInvalidArgument,
                    "[pack] the buffer is the weight's own");
    auto made = std::make_shared<Weight>();
    made->device = found->device;
    made->packed = found->device->copy(found->packed, std::move(to));
    *copy = tables().weights.insert(std::move(made));
  });
}

sabrewing_status sabrewing_weight_destroy(sabrewing_weight* weight) {
  if (weight == nullptr) return SABREWING_OK;
  return guarded([&] { tables().weights.remove(weight); });
}

sabrewing_status sabrewing_weight_data(const sabrewing_weight* weight, const void** data, size_t* bytes) {
  return guarded([&] {
    check_out(data, "data");
    check_out(bytes, "bytes");
    const auto found = tables().weights.find(weight);
    *data = found->packed.bytes.data;
    *bytes = found->packed.expert_stride_bytes;
  });
}

sabrewing_status sabrewing_gemm_enqueue(const sabrewing_plan* plan, const sabrewing_gemm_args* args,
                                        void* stream) {
  return guarded([&] { enqueue(*tables().plans.find(plan), args, stream); });
}
