// Compares the own declarations of the driver's types with cuda.h; built only where a toolkit is installed.
#include <cuda.h>

#include <cstddef>
#include <type_traits>

#include "jit/driver_api.h"
#include "jit/tensor_map.h"

namespace sabrewing::jit {

static_assert(std::is_same_v<StreamHandle, CUstream> && std::is_same_v<EventHandle, CUevent> &&
              std::is_same_v<ModuleHandle, CUmodule> && std::is_same_v<FunctionHandle, CUfunction> &&
              std::is_same_v<GraphHandle, CUgraph> && std::is_same_v<GraphExecHandle, CUgraphExec> &&
              std::is_same_v<GraphNodeHandle, CUgraphNode> && std::is_same_v<ContextHandle, CUcontext>);
static_assert(sizeof(DeviceAddress) == sizeof(CUdeviceptr));

static_assert(sizeof(LaunchConfigAbi) == sizeof(CUlaunchConfig));
static_assert(offsetof(LaunchConfigAbi, block) == offsetof(CUlaunchConfig, blockDimX));
static_assert(offsetof(LaunchConfigAbi, shared_bytes) == offsetof(CUlaunchConfig, sharedMemBytes));
static_assert(offsetof(LaunchConfigAbi, stream) == offsetof(CUlaunchConfig, hStream));
static_assert(offsetof(LaunchConfigAbi, attributes) == offsetof(CUlaunchConfig, attrs));
static_assert(offsetof(LaunchConfigAbi, attribute_count) == offsetof(CUlaunchConfig, numAttrs));
static_assert(sizeof(LaunchAttributeAbi) == sizeof(CUlaunchAttribute));
static_assert(offsetof(LaunchAttributeAbi, value) == offsetof(CUlaunchAttribute, value));
static_assert(LaunchAttributeAbi::kCooperative == CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
static_assert(LaunchAttributeAbi::kClusterDimension == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
static_assert(LaunchAttributeAbi::kProgrammaticStreamSerialization ==
              CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap));

#define SAME(own, theirs) static_assert(static_cast<int>(own) == static_cast<int>(theirs))
SAME(TensorMapType::kU8, CU_TENSOR_MAP_DATA_TYPE_UINT8);
SAME(TensorMapType::kU16, CU_TENSOR_MAP_DATA_TYPE_UINT16);
SAME(TensorMapType::kU32, CU_TENSOR_MAP_DATA_TYPE_UINT32);
SAME(TensorMapType::kI32, CU_TENSOR_MAP_DATA_TYPE_INT32);
SAME(TensorMapType::kF16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
SAME(TensorMapType::kF32, CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
SAME(TensorMapType::kBF16, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
SAME(TensorMapSwizzle::kNone, CU_TENSOR_MAP_SWIZZLE_NONE);
SAME(TensorMapSwizzle::k32B, CU_TENSOR_MAP_SWIZZLE_32B);
SAME(TensorMapSwizzle::k64B, CU_TENSOR_MAP_SWIZZLE_64B);
SAME(TensorMapSwizzle::k128B, CU_TENSOR_MAP_SWIZZLE_128B);
SAME(TensorMapPromotion::k256B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
SAME(DeviceAttribute::kMaxThreadsPerBlock, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
SAME(DeviceAttribute::kWarpSize, CU_DEVICE_ATTRIBUTE_WARP_SIZE);
SAME(DeviceAttribute::kClockKilohertz, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
SAME(DeviceAttribute::kMultiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(DeviceAttribute::kMemoryClockKilohertz, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
SAME(DeviceAttribute::kMemoryBusBits, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
SAME(DeviceAttribute::kL2Bytes, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
SAME(DeviceAttribute::kComputeMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(DeviceAttribute::kComputeMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(DeviceAttribute::kSharedBytesPerMultiprocessor,
     CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
SAME(DeviceAttribute::kRegistersPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
SAME(DeviceAttribute::kSharedBytesPerBlockOptin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
SAME(DeviceAttribute::kReservedSharedBytesPerBlock, CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK);
SAME(DeviceAttribute::kClusterLaunch, CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH);
SAME(FunctionAttribute::kMaxThreadsPerBlock, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
SAME(FunctionAttribute::kSharedBytes, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
SAME(FunctionAttribute::kLocalBytes, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
SAME(FunctionAttribute::kRegisters, CU_FUNC_ATTRIBUTE_NUM_REGS);
SAME(FunctionAttribute::kMaxDynamicSharedBytes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(FunctionAttribute::kSharedCarveout, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT);
SAME(FunctionAttribute::kNonPortableClusterSizeAllowed, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED);
SAME(result::kOutOfMemory, CUDA_ERROR_OUT_OF_MEMORY);
SAME(result::kInvalidImage, CUDA_ERROR_INVALID_IMAGE);
SAME(result::kNoBinaryForGpu, CUDA_ERROR_NO_BINARY_FOR_GPU);
SAME(result::kNotFound, CUDA_ERROR_NOT_FOUND);
SAME(result::kIllegalAddress, CUDA_ERROR_ILLEGAL_ADDRESS);
SAME(result::kLaunchFailed, CUDA_ERROR_LAUNCH_FAILED);
#undef SAME

}  // namespace sabrewing::jit
