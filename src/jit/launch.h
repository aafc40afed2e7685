#pragma once

#include <array>

#include "jit/launch_log.h"
#include "jit/module.h"

namespace sabrewing::jit {

struct LaunchConfig {
  std::array<unsigned, 3> grid{1, 1, 1};
  std::array<unsigned, 3> block{1, 1, 1};
  std::array<unsigned, 3> cluster{1, 1, 1};  ///< blocks per cluster; each divides the grid's extent
  unsigned dynamic_shared_bytes = 0;
  StreamHandle stream = nullptr;
  /// Programmatic dependent launch: may start while the kernel before it in the stream is finishing; the
  /// kernel itself waits with griddepcontrol.wait before it touches that kernel's output.
  bool programmatic_serialization = false;
  bool cooperative = false;
};

inline constexpr int kMaxLaunchAttributes = 3;

/// The driver's form of `config`; it points into `attributes`.
LaunchConfigAbi to_abi(const LaunchConfig& config, LaunchAttributeAbi (&attributes)[kMaxLaunchAttributes]);

/// Whether each launch waits for its kernel (outside of captures), so that a fault is reported by the launch
/// that caused it. For finding faults; off unless SABREWING_SYNCHRONOUS_LAUNCHES is set.
void set_synchronous_launches(bool synchronous);

/// Launches with pointers to the arguments, in the order of the kernel's parameters. Allocates nothing and
/// does not synchronise; safe while the stream is being captured. Throws `Error{kDevice}` naming kernel and
/// configuration when the driver refuses the launch; a grid with an extent of zero launches nothing.
void launch_with_pointers(const Kernel& kernel, const LaunchConfig& config, void** arguments);

/// Launches with the arguments by value. Each must have exactly the type of the kernel's parameter.
template <typename... Arguments>
void launch(const Kernel& kernel, const LaunchConfig& config, const Arguments&... arguments) {
  void* pointers[sizeof...(Arguments) + 1] = {
      const_cast<void*>(static_cast<const void*>(std::addressof(arguments)))..., nullptr};
  launch_with_pointers(kernel, config, pointers);
}

}  // namespace sabrewing::jit
