#include "jit/launch.h"

#include <atomic>

#include "core/options.h"

namespace sabrewing::jit {

namespace {

[[noreturn]] void refuse_launch(const Kernel& kernel, const LaunchConfig& config, int result) {
  try {
    check_driver(result, "launch_kernel");
  } catch (const Error& error) {
    fail(error.code(),
         "[launch] {} with grid {}x{}x{}, block {}x{}x{}, cluster {}x{}x{}, {} bytes of shared memory: {}",
         kernel.label(), config.grid[0], config.grid[1], config.grid[2], config.block[0], config.block[1],
         config.block[2], config.cluster[0], config.cluster[1], config.cluster[2],
         config.dynamic_shared_bytes, error.what());
  }
  fail(ErrorCode::kInternal, "[launch] refused without an error");
}

std::atomic<bool>& synchronous_launches() {
  static std::atomic<bool> synchronous{environment("SABREWING_SYNCHRONOUS_LAUNCHES").has_value()};
  return synchronous;
}

}  // namespace

void set_synchronous_launches(bool synchronous) { synchronous_launches() = synchronous; }

LaunchConfigAbi to_abi(const LaunchConfig& config, LaunchAttributeAbi (&attributes)[kMaxLaunchAttributes]) {
  LaunchConfigAbi abi{};
  for (int i = 0; i < 3; ++i) {
    abi.grid[i] = config.grid[i];
    abi.block[i] = config.block[i];
  }
  abi.shared_bytes = config.dynamic_shared_bytes;
  abi.stream = config.stream;
  abi.attributes = attributes;
  const auto add = [&](int id) -> LaunchAttributeAbi& {
    LaunchAttributeAbi& attribute = attributes[abi.attribute_count++];
    attribute = {};
    attribute.id = id;
    return attribute;
  };
  if (config.cluster != std::array<unsigned, 3>{1, 1, 1}) {
    LaunchAttributeAbi& attribute = add(LaunchAttributeAbi::kClusterDimension);
    for (int i = 0; i < 3; ++i) attribute.value.cluster[i] = config.cluster[i];
  }
  if (config.programmatic_serialization)
    add(LaunchAttributeAbi::kProgrammaticStreamSerialization).value.flag = 1;
  if (config.cooperative) add(LaunchAttributeAbi::kCooperative).value.flag = 1;
  return abi;
}

void launch_with_pointers(const Kernel& kernel, const LaunchConfig& config, void** arguments) {
  if (config.grid[0] == 0 || config.grid[1] == 0 || config.grid[2] == 0) return;
  LaunchAttributeAbi attributes[kMaxLaunchAttributes];
  const LaunchConfigAbi abi = to_abi(config, attributes);
  record_launch(kernel.interned_label(), config.grid);
  const int result = driver().launch_kernel(&abi, kernel.handle(), arguments, nullptr);
  if (result != result::kSuccess) [[unlikely]]
    refuse_launch(kernel, config, result);
  if (synchronous_launches().load(std::memory_order_relaxed) && !is_capturing(config.stream))
    synchronize(config.stream);
}

}  // namespace sabrewing::jit
