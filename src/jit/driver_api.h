#pragma once

#include <cstddef>
#include <cstdint>

// The handle types have the driver's own tags, so that a stream of the CUDA runtime or of another library
// can be passed as it is, and this header may stand beside cuda.h.
struct CUctx_st;
struct CUstream_st;
struct CUevent_st;
struct CUmod_st;
struct CUfunc_st;
struct CUgraph_st;
struct CUgraphExec_st;
struct CUgraphNode_st;

namespace sabrewing::jit {

using ContextHandle = CUctx_st*;
using StreamHandle = CUstream_st*;  ///< null is the legacy default stream
using EventHandle = CUevent_st*;
using ModuleHandle = CUmod_st*;
using FunctionHandle = CUfunc_st*;
using GraphHandle = CUgraph_st*;
using GraphExecHandle = CUgraphExec_st*;
using GraphNodeHandle = CUgraphNode_st*;
using DeviceAddress = std::uint64_t;

/// Values of CUresult that are told apart.
namespace result {
inline constexpr int kSuccess = 0;
inline constexpr int kOutOfMemory = 2;
inline constexpr int kNoDevice = 100;
inline constexpr int kInvalidImage = 200;
inline constexpr int kNoBinaryForGpu = 209;
inline constexpr int kNotFound = 500;
inline constexpr int kNotReady = 600;
inline constexpr int kIllegalAddress = 700;
inline constexpr int kLaunchTimeout = 702;
inline constexpr int kAssert = 710;
inline constexpr int kHardwareStackError = 714;
inline constexpr int kLaunchFailed = 719;
inline constexpr int kTensorMemoryLeak = 721;
}  // namespace result

/// CUdevice_attribute.
enum class DeviceAttribute : int {
  kMaxThreadsPerBlock = 1,
  kWarpSize = 10,
  kClockKilohertz = 13,
  kMultiprocessors = 16,
  kMemoryClockKilohertz = 36,
  kMemoryBusBits = 37,
  kL2Bytes = 38,
  kComputeMajor = 75,
  kComputeMinor = 76,
  kSharedBytesPerMultiprocessor = 81,
  kRegistersPerMultiprocessor = 82,
  kSharedBytesPerBlockOptin = 97,
  kReservedSharedBytesPerBlock = 111,
  kClusterLaunch = 120,
};

/// CUfunction_attribute.
enum class FunctionAttribute : int {
  kMaxThreadsPerBlock = 0,
  kSharedBytes = 1,
  kLocalBytes = 3,
  kRegisters = 4,
  kMaxDynamicSharedBytes = 8,
  kSharedCarveout = 9,
  kNonPortableClusterSizeAllowed = 14,
};

/// CUlaunchAttribute: an id, four bytes of padding, a union of 64 bytes.
struct LaunchAttributeAbi {
  static constexpr int kCooperative = 2;
  static constexpr int kClusterDimension = 4;
  static constexpr int kProgrammaticStreamSerialization = 6;

  int id;
  char pad[4];
  union {
    char bytes[64];
    int flag;
    unsigned cluster[3];
    void* alignment;
  } value;
};
static_assert(sizeof(LaunchAttributeAbi) == 72);

/// CUlaunchConfig.
struct LaunchConfigAbi {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  StreamHandle stream;
  LaunchAttributeAbi* attributes;
  unsigned attribute_count;
};
static_assert(sizeof(LaunchConfigAbi) == 56);

/// CUtensorMap: an opaque descriptor, passed to kernels by value as a `const __grid_constant__` parameter.
struct alignas(128) TensorMap {
  std::uint64_t opaque[16];
};
static_assert(sizeof(TensorMap) == 128);

/// Entry points of libcuda.so.1, each a member named like the function; X(member, symbol, parameters).
#define SABREWING_DRIVER_FUNCTIONS(X)                                                                        \
  X(init, cuInit, (unsigned flags))                                                                          \
  X(driver_version, cuDriverGetVersion, (int* version))                                                      \
  X(error_name, cuGetErrorName, (int result, const char** name))                                             \
  X(error_string, cuGetErrorString, (int result, const char** text))                                         \
  X(device_count, cuDeviceGetCount, (int* count))                                                            \
  X(device_get, cuDeviceGet, (int* device, int ordinal))                                                     \
  X(device_name, cuDeviceGetName, (char* name, int length, int device))                                      \
  X(device_attribute, cuDeviceGetAttribute, (int* value, int attribute, int device))                         \
  X(device_total_memory, cuDeviceTotalMem_v2, (std::size_t* bytes, int device))                              \
  X(primary_context_retain, cuDevicePrimaryCtxRetain, (ContextHandle * context, int device))                 \
  X(primary_context_release, cuDevicePrimaryCtxRelease_v2, (int device))                                     \
  X(context_set_current, cuCtxSetCurrent, (ContextHandle context))                                           \
  X(context_get_current, cuCtxGetCurrent, (ContextHandle * context))                                         \
  X(context_synchronize, cuCtxSynchronize, ())                                                               \
  X(memory_info, cuMemGetInfo_v2, (std::size_t* free, std::size_t* total))                                   \
  X(memory_alloc, cuMemAlloc_v2, (DeviceAddress * address, std::size_t bytes))                               \
  X(memory_free, cuMemFree_v2, (DeviceAddress address))                                                      \
  X(host_alloc, cuMemAllocHost_v2, (void** address, std::size_t bytes))                                      \
  X(host_free, cuMemFreeHost, (void* address))                                                               \
  X(pointer_attribute, cuPointerGetAttribute, (void* value, int attribute, DeviceAddress address))           \
  X(copy_to_device, cuMemcpyHtoDAsync_v2,                                                                    \
    (DeviceAddress to, const void* from, std::size_t bytes, StreamHandle stream))                            \
  X(copy_to_host, cuMemcpyDtoHAsync_v2,                                                                      \
    (void* to, DeviceAddress from, std::size_t bytes, StreamHandle stream))                                  \
  X(copy_on_device, cuMemcpyDtoDAsync_v2,                                                                    \
    (DeviceAddress to, DeviceAddress from, std::size_t bytes, StreamHandle stream))                          \
  X(set_bytes, cuMemsetD8Async,                                                                              \
    (DeviceAddress to, unsigned char value, std::size_t count, StreamHandle stream))                         \
  X(set_words, cuMemsetD32Async, (DeviceAddress to, unsigned value, std::size_t count, StreamHandle stream)) \
  X(stream_create, cuStreamCreateWithPriority, (StreamHandle * stream, unsigned flags, int priority))        \
  X(stream_destroy, cuStreamDestroy_v2, (StreamHandle stream))                                               \
  X(stream_synchronize, cuStreamSynchronize, (StreamHandle stream))                                          \
  X(stream_query, cuStreamQuery, (StreamHandle stream))                                                      \
  X(stream_wait_event, cuStreamWaitEvent, (StreamHandle stream, EventHandle event, unsigned flags))          \
  X(stream_begin_capture, cuStreamBeginCapture_v2, (StreamHandle stream, int mode))                          \
  X(stream_end_capture, cuStreamEndCapture, (StreamHandle stream, GraphHandle * graph))                      \
  X(stream_is_capturing, cuStreamIsCapturing, (StreamHandle stream, int* status))                            \
  X(event_create, cuEventCreate, (EventHandle * event, unsigned flags))                                      \
  X(event_destroy, cuEventDestroy_v2, (EventHandle event))                                                   \
  X(event_record, cuEventRecord, (EventHandle event, StreamHandle stream))                                   \
  X(event_synchronize, cuEventSynchronize, (EventHandle event))                                              \
  X(event_elapsed_time, cuEventElapsedTime, (float* milliseconds, EventHandle start, EventHandle end))       \
  X(graph_instantiate, cuGraphInstantiateWithFlags,                                                          \
    (GraphExecHandle * exec, GraphHandle graph, unsigned long long flags))                                   \
  X(graph_nodes, cuGraphGetNodes, (GraphHandle graph, GraphNodeHandle * nodes, std::size_t* count))          \
  X(graph_upload, cuGraphUpload, (GraphExecHandle exec, StreamHandle stream))                                \
  X(graph_launch, cuGraphLaunch, (GraphExecHandle exec, StreamHandle stream))                                \
  X(graph_destroy, cuGraphDestroy, (GraphHandle graph))                                                      \
  X(graph_exec_destroy, cuGraphExecDestroy, (GraphExecHandle exec))                                          \
  X(module_load, cuModuleLoadData, (ModuleHandle * module, const void* image))                               \
  X(module_unload, cuModuleUnload, (ModuleHandle module))                                                    \
  X(module_function, cuModuleGetFunction,                                                                    \
    (FunctionHandle * function, ModuleHandle module, const char* name))                                      \
  X(module_global, cuModuleGetGlobal_v2,                                                                     \
    (DeviceAddress * address, std::size_t* bytes, ModuleHandle module, const char* name))                    \
  X(function_attribute, cuFuncGetAttribute, (int* value, int attribute, FunctionHandle function))            \
  X(set_function_attribute, cuFuncSetAttribute, (FunctionHandle function, int attribute, int value))         \
  X(occupancy_blocks, cuOccupancyMaxActiveBlocksPerMultiprocessor,                                           \
    (int* blocks, FunctionHandle function, int block_threads, std::size_t dynamic_shared_bytes))             \
  X(occupancy_clusters, cuOccupancyMaxActiveClusters,                                                        \
    (int* clusters, FunctionHandle function, const LaunchConfigAbi* config))                                 \
  X(launch_kernel, cuLaunchKernelEx,                                                                         \
    (const LaunchConfigAbi* config, FunctionHandle function, void** arguments, void** extra))                \
  X(tensor_map_encode_tiled, cuTensorMapEncodeTiled,                                                         \
    (TensorMap * map, int type, std::uint32_t rank, void* address, const std::uint64_t* extents,             \
     const std::uint64_t* strides, const std::uint32_t* box, const std::uint32_t* element_strides,           \
     int interleave, int swizzle, int l2_promotion, int out_of_bounds_fill))

struct DriverApi {
#define SABREWING_DECLARE(member, symbol, parameters) int(*member) parameters = nullptr;
  SABREWING_DRIVER_FUNCTIONS(SABREWING_DECLARE)
#undef SABREWING_DECLARE
};

}  // namespace sabrewing::jit
