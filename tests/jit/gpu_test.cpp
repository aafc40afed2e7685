#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "jit/launch.h"
#include "jit/nvrtc_compiler.h"
#include "jit/tensor_map.h"

namespace sabrewing::jit {
namespace {

using ::testing::HasSubstr;

constexpr const char* kSource = R"(
extern "C" __global__ void add(const float* a, const float* b, float* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}
extern "C" __global__ void add_after_dependency(float* c, float by, int n) {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] += by;
}
extern "C" __global__ void cluster_rank(unsigned* out) {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  if (threadIdx.x == 0) out[blockIdx.x] = rank;
}
extern "C" __global__ void sum_shared(float* out, int n) {
  extern __shared__ float values[];
  for (int i = threadIdx.x; i < n; i += blockDim.x) values[i] = 1.0f;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int i = 0; i < n; ++i) sum += values[i];
    out[0] = sum;
  }
}
extern "C" __global__ void fault(int* p) { p[threadIdx.x] = 1; }
struct alignas(64) TensorMap { unsigned long long opaque[16]; };
extern "C" __global__ void load_tile(const __grid_constant__ TensorMap map, float* out) {
  __shared__ alignas(128) float tile[8 * 4];
  __shared__ alignas(8) unsigned long long barrier;
  unsigned bar = (unsigned)__cvta_generic_to_shared(&barrier), to = (unsigned)__cvta_generic_to_shared(tile);
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" :: "r"(bar));
    asm volatile("fence.proxy.async;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" :: "r"(bar), "r"(128));
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
                 :: "r"(to), "l"(&map), "r"(4), "r"(2), "r"(bar) : "memory");
  }
  __syncthreads();
  asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.shared.b64 p, [%0], 0; @!p bra again; }" :: "r"(bar) : "memory");
  if (threadIdx.x < 32) out[threadIdx.x] = tile[threadIdx.x];
}
)";

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const Feasibility available = driver_available(); !available) GTEST_SKIP() << available.reason;
    if (const Feasibility available = compiler_.available(); !available) GTEST_SKIP() << available.reason;
    device_ = Device::open(0);
    if (device_->info().compute_major < 9) GTEST_SKIP() << device_->info().name << " has no clusters";
    KernelSource source;
    source.name = "jit gpu test";
    source.source = kSource;
    source.architecture = device_->info().architecture;
    compiled_ = compiler_.compile(source);
    stream_.emplace(device_);
  }

  Kernel kernel(const char* name) { return load_kernel(device_, *compiled_, name); }

  template <typename T>
  DeviceBuffer upload(const std::vector<T>& values) {
    DeviceBuffer buffer(device_, values.size() * sizeof(T));
    copy_to_device(buffer.data(), std::as_bytes(std::span(values)), *stream_);
    return buffer;
  }

  template <typename T>
  std::vector<T> download(const DeviceBuffer& buffer) {
    std::vector<T> values(buffer.size() / sizeof(T));
    copy_to_host(std::as_writable_bytes(std::span(values)), buffer.data(), *stream_);
    stream_->synchronize();
    return values;
  }

  Compiler compiler_;
  DevicePtr device_;
  std::shared_ptr<const CompiledKernels> compiled_;
  std::optional<Stream> stream_;
};

std::vector<float> iota(int n, float step) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = step * static_cast<float>(i);
  return values;
}

TEST_F(Gpu, DescribesTheDevice) {
  const DeviceInfo& info = device_->info();
  EXPECT_FALSE(info.name.empty());
  EXPECT_GT(info.multiprocessors, 0);
  EXPECT_GE(info.max_shared_bytes_per_block, 99 * 1024);
  EXPECT_TRUE(info.has_clusters);
  const Device::Memory memory = device_->memory();
  EXPECT_LE(memory.free, memory.total);
  EXPECT_EQ(Device::open(0).get(), device_.get());
  EXPECT_THROW(Device::open(device_count()), Error);
}

TEST_F(Gpu, AddsVectorsAndReplaysAGraph) {
  const int n = 1000;
  const auto a = upload(iota(n, 1.0f));
  const auto b = upload(iota(n, 2.0f));
  const DeviceBuffer c(device_, n * sizeof(float));
  set_bytes(c.data(), 0xff, c.size(), *stream_);
  const Kernel add = kernel("add");
  const Kernel add_after = kernel("add_after_dependency");
  EXPECT_GT(add.attributes().registers, 0);
  EXPECT_EQ(add.attributes().local_bytes, 0);
  EXPECT_GE(add.blocks_per_multiprocessor(128, 0), 8);
  LaunchConfig config;
  config.grid = {8, 1, 1};
  config.block = {128, 1, 1};
  config.stream = *stream_;
  const auto enqueue = [&] {
    config.programmatic_serialization = false;
    launch(add, config, a.as<const float>(), b.as<const float>(), c.as<float>(), n);
    config.programmatic_serialization = true;
    launch(add_after, config, c.as<float>(), 0.5f, n);
  };
  enqueue();
  std::vector<float> expected = iota(n, 3.0f);
  for (float& value : expected) value += 0.5f;
  EXPECT_EQ(download<float>(c), expected);

  set_bytes(c.data(), 0xff, c.size(), *stream_);
  const Graph graph = Graph::capture(device_, *stream_, enqueue);
  EXPECT_EQ(graph.nodes(), 2u);
  EXPECT_FALSE(is_capturing(*stream_));
  EXPECT_NE(download<float>(c), expected) << "capturing ran the kernels";
  const Event start(device_);
  const Event stop(device_);
  start.record(*stream_);
  graph.launch(*stream_);
  stop.record(*stream_);
  stop.synchronize();
  EXPECT_GT(stop.microseconds_since(start), 0.0);
  EXPECT_EQ(download<float>(c), expected);
  EXPECT_THAT(recent_launches(1), HasSubstr("graph of 2 launches (jit gpu test"));
}

TEST_F(Gpu, AFailedCaptureLeavesTheStreamUsable) {
  EXPECT_THROW(Graph::capture(device_, *stream_, [] { fail(ErrorCode::kInternal, "stop"); }), Error);
  EXPECT_FALSE(is_capturing(*stream_));
  const auto values = iota(7, 1.0f);
  EXPECT_EQ(download<float>(upload(values)), values);
}

TEST_F(Gpu, LaunchesClusters) {
  const Kernel rank = kernel("cluster_rank");
  const DeviceBuffer out(device_, 16 * sizeof(unsigned));
  LaunchConfig config;
  config.grid = {16, 1, 1};
  config.block = {32, 1, 1};
  config.cluster = {4, 1, 1};
  config.stream = *stream_;
  EXPECT_GT(rank.max_active_clusters(config), 0);
  launch(rank, config, out.as<unsigned>());
  std::vector<unsigned> expected;
  for (unsigned i = 0; i < 16; ++i) expected.push_back(i % 4);
  EXPECT_EQ(download<unsigned>(out), expected);

  config.grid = {15, 1, 1};
  try {
    launch(rank, config, out.as<unsigned>());
    FAIL() << "a grid that the cluster does not divide was launched";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDevice);
    EXPECT_THAT(error.what(), HasSubstr("grid 15x1x1"));
    EXPECT_THAT(error.what(), HasSubstr("cluster 4x1x1"));
  }
  config.grid = {0, 1, 1};
  launch(rank, config, out.as<unsigned>());
  stream_->synchronize();
}

TEST_F(Gpu, UsesOptInSharedMemoryAndRefusesMoreThanTheDeviceHas) {
  const Kernel sum = kernel("sum_shared");
  const int bytes = device_->info().max_shared_bytes_per_block;
  EXPECT_THROW(sum.set_max_dynamic_shared_bytes(bytes + 1), Error);
  sum.set_max_dynamic_shared_bytes(bytes);
  EXPECT_EQ(sum.blocks_per_multiprocessor(128, static_cast<std::size_t>(bytes)), 1);
  const DeviceBuffer out(device_, sizeof(float));
  LaunchConfig config;
  config.block = {128, 1, 1};
  config.dynamic_shared_bytes = static_cast<unsigned>(bytes);
  config.stream = *stream_;
  launch(sum, config, out.as<float>(), bytes / 4);
  EXPECT_EQ(download<float>(out), std::vector<float>{static_cast<float>(bytes / 4)});
}

TEST_F(Gpu, LoadsATileThroughATensorMap) {
  const auto matrix = upload(iota(16 * 32, 1.0f));  // (16, 32)
  const DeviceBuffer out(device_, 32 * sizeof(float));
  TensorMapDesc desc;
  desc.type = TensorMapType::kF32;
  desc.address = matrix.data();
  desc.extents = {32, 16};
  desc.strides_bytes = {32 * sizeof(float)};
  desc.box = {8, 4};
  const TensorMap map = encode_tensor_map(desc);
  LaunchConfig config;
  config.block = {32, 1, 1};
  config.stream = *stream_;
  launch(kernel("load_tile"), config, map, out.as<float>());
  std::vector<float> expected;
  for (int row = 2; row < 6; ++row)
    for (int column = 4; column < 12; ++column) expected.push_back(static_cast<float>(row * 32 + column));
  EXPECT_EQ(download<float>(out), expected);
}

TEST_F(Gpu, RefusesWhatIsNotThere) {
  EXPECT_THROW(kernel("missing"), Error);
  const Module module(device_, compiled_->cubin, "module under test");
  try {
    module.kernel("missing");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("module under test has no kernel missing"));
  }
  KernelSource other;
  other.name = "for another architecture";
  other.source = "extern \"C\" __global__ void k() {}";
  other.architecture = Architecture::parse(device_->info().compute_major == 9 ? "sm_100a" : "sm_90a");
  const auto compiled = compiler_.compile(other);
  try {
    load_kernel(device_, *compiled);
    FAIL() << "loaded code for another architecture";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDevice);
    EXPECT_THAT(error.what(), HasSubstr("for another architecture"));
  }
  const std::size_t too_much = device_->info().memory_bytes * 2;
  try {
    const DeviceBuffer buffer(device_, too_much);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(too_much)));
  }
  int on_host = 0;
  const DeviceBuffer on_device(device_, 4);
  EXPECT_TRUE(is_device_pointer(on_device.data()));
  EXPECT_FALSE(is_device_pointer(&on_host));
  EXPECT_FALSE(is_device_pointer(nullptr));
}

// NVRTC has a cache of its own beside a driver; what comes from there is complete too.
TEST_F(Gpu, CompilesTheSameTwice) {
  KernelSource source;
  source.name = "twice";
  source.source =
      "template <int> __global__ void same(int* p) { *p = 1; }\n// " + std::to_string(std::random_device()());
  source.expressions = {"same<3>"};
  source.architecture = device_->info().architecture;
  for (int i = 0; i < 2; ++i) {
    Compiler compiler;
    EXPECT_GT(compiler.compile(source)->function("same<3>").resources.registers, 0) << "compilation " << i;
    EXPECT_EQ(compiler.counters().compiled, 1U);
  }
}

// The fault ends the context for good, so it happens in a process of its own.
TEST_F(Gpu, AFaultNamesTheLatestLaunches) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto fault = [this] {
    LaunchConfig config;
    config.block = {32, 1, 1};
    config.stream = *stream_;
    launch(kernel("fault"), config, static_cast<int*>(nullptr));
    try {
      stream_->synchronize();
    } catch (const Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(fault(), ::testing::ExitedWithCode(0), "latest launches, newest first: jit gpu test");
  const auto fault_at_once = [this] {
    set_synchronous_launches(true);
    LaunchConfig config;
    config.block = {32, 1, 1};
    config.stream = *stream_;
    try {
      launch(kernel("fault"), config, static_cast<int*>(nullptr));
    } catch (const Error& error) {
      std::fprintf(stderr, "at once: %s\n", error.what());
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(fault_at_once(), ::testing::ExitedWithCode(0), "at once: .*newest first: jit gpu test");
}

}  // namespace
}  // namespace sabrewing::jit
