#include "jit/device.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "jit/launch_log.h"

namespace sabrewing::jit {

namespace {

constexpr unsigned kStreamNonBlocking = 1;
constexpr unsigned kEventDisableTiming = 2;
constexpr int kCaptureThreadLocal = 1;
constexpr int kPointerMemoryType = 2;
constexpr int kPointerIsManaged = 8;
constexpr unsigned kDeviceMemory = 2;

DeviceAddress address_of(const void* pointer) { return reinterpret_cast<DeviceAddress>(pointer); }

int attribute(int device, DeviceAttribute which) {
  int value = 0;
  SABREWING_DRIVER(device_attribute(&value, static_cast<int>(which), device));
  return value;
}

}  // namespace

int device_count() {
  int count = 0;
  SABREWING_DRIVER(device_count(&count));
  return count;
}

std::shared_ptr<Device> Device::open(int ordinal) {
  static std::mutex mutex;
  static auto& devices = *new std::map<int, std::weak_ptr<Device>>;
  const std::lock_guard lock(mutex);
  std::shared_ptr<Device> device = devices[ordinal].lock();
  if (!device) {
    device.reset(new Device(ordinal));
    devices[ordinal] = device;
  }
  device->make_current();
  return device;
}

Device::Device(int ordinal) {
  const int count = device_count();
  SABREWING_CHECK(ordinal >= 0 && ordinal < count, kInvalidArgument,
                  "[device] no GPU {}: this machine has {} (0 to {})", ordinal, count, count - 1);
  SABREWING_DRIVER(device_get(&handle_, ordinal));

  char name[256] = {};
  SABREWING_DRIVER(device_name(name, sizeof(name), handle_));
  info_.ordinal = ordinal;
  info_.name = name;
  info_.compute_major = attribute(handle_, DeviceAttribute::kComputeMajor);
  info_.compute_minor = attribute(handle_, DeviceAttribute::kComputeMinor);
  info_.multiprocessors = attribute(handle_, DeviceAttribute::kMultiprocessors);
  info_.max_shared_bytes_per_block = attribute(handle_, DeviceAttribute::kSharedBytesPerBlockOptin);
  info_.shared_bytes_per_multiprocessor = attribute(handle_, DeviceAttribute::kSharedBytesPerMultiprocessor);
  info_.reserved_shared_bytes_per_block = attribute(handle_, DeviceAttribute::kReservedSharedBytesPerBlock);
  info_.registers_per_multiprocessor = attribute(handle_, DeviceAttribute::kRegistersPerMultiprocessor);
  info_.l2_bytes = attribute(handle_, DeviceAttribute::kL2Bytes);
  info_.clock_kilohertz = attribute(handle_, DeviceAttribute::kClockKilohertz);
  info_.memory_clock_kilohertz = attribute(handle_, DeviceAttribute::kMemoryClockKilohertz);
  info_.memory_bus_bits = attribute(handle_, DeviceAttribute::kMemoryBusBits);
  info_.has_clusters = attribute(handle_, DeviceAttribute::kClusterLaunch) != 0;
  info_.architecture = Architecture::of_device(info_.compute_major, info_.compute_minor);
  SABREWING_DRIVER(device_total_memory(&info_.memory_bytes, handle_));
  SABREWING_DRIVER(primary_context_retain(&context_, handle_));
}

Device::~Device() {
  if (context_ != nullptr) driver().primary_context_release(handle_);
}

void Device::make_current() const { SABREWING_DRIVER(context_set_current(context_)); }

void Device::synchronize() const {
  make_current();
  SABREWING_DRIVER(context_synchronize());
}

Device::Memory Device::memory() const {
  make_current();
  Memory memory{};
  SABREWING_DRIVER(memory_info(&memory.free, &memory.total));
  return memory;
}

DeviceBuffer::DeviceBuffer(DevicePtr device, std::size_t bytes) : device_(std::move(device)), size_(bytes) {
  if (bytes == 0) return;
  DeviceAddress address = 0;
  const int result = driver().memory_alloc(&address, bytes);
  if (result == result::kOutOfMemory) {
    const Device::Memory memory = device_->memory();
    fail(ErrorCode::kOutOfMemory, "[device] cannot allocate {} bytes on {}: {} of {} are free", bytes,
         device_->info().name, memory.free, memory.total);
  }
  check_driver(result, "memory_alloc");
  data_ = reinterpret_cast<void*>(address);
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) driver().memory_free(address_of(data_));
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : device_(std::move(other.device_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

PinnedBuffer::PinnedBuffer(DevicePtr device, std::size_t bytes) : device_(std::move(device)), size_(bytes) {
  if (bytes == 0) return;
  void* address = nullptr;
  SABREWING_DRIVER(host_alloc(&address, bytes));
  data_ = static_cast<std::byte*>(address);
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ != nullptr) driver().host_free(data_);
}

PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : device_(std::move(other.device_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void copy_to_device(void* to, std::span<const std::byte> from, StreamHandle stream) {
  if (!from.empty()) SABREWING_DRIVER(copy_to_device(address_of(to), from.data(), from.size(), stream));
}

void copy_to_host(std::span<std::byte> to, const void* from, StreamHandle stream) {
  if (!to.empty()) SABREWING_DRIVER(copy_to_host(to.data(), address_of(from), to.size(), stream));
}

void copy_on_device(void* to, const void* from, std::size_t bytes, StreamHandle stream) {
  if (bytes != 0) SABREWING_DRIVER(copy_on_device(address_of(to), address_of(from), bytes, stream));
}

void set_bytes(void* to, unsigned char value, std::size_t bytes, StreamHandle stream) {
  if (bytes != 0) SABREWING_DRIVER(set_bytes(address_of(to), value, bytes, stream));
}

bool is_device_pointer(const void* pointer) {
  unsigned type = 0;
  return pointer != nullptr &&
         driver().pointer_attribute(&type, kPointerMemoryType, address_of(pointer)) == result::kSuccess;
}

bool is_host_pointer(const void* pointer) {
  unsigned type = 0;
  const DeviceAddress address = address_of(pointer);
  if (driver().pointer_attribute(&type, kPointerMemoryType, address) != result::kSuccess) return true;
  if (type != kDeviceMemory) return true;
  unsigned managed = 0;
  return driver().pointer_attribute(&managed, kPointerIsManaged, address) == result::kSuccess && managed != 0;
}

void synchronize(StreamHandle stream) { SABREWING_DRIVER(stream_synchronize(stream)); }

bool is_capturing(StreamHandle stream) {
  int status = 0;
  SABREWING_DRIVER(stream_is_capturing(stream, &status));
  return status != 0;
}

Stream::Stream(DevicePtr device, int priority) : device_(std::move(device)) {
  SABREWING_DRIVER(stream_create(&stream_, kStreamNonBlocking, priority));
}

Stream::~Stream() {
  if (stream_ != nullptr) driver().stream_destroy(stream_);
}

Stream::Stream(Stream&& other) noexcept
    : device_(std::move(other.device_)), stream_(std::exchange(other.stream_, nullptr)) {}

Stream& Stream::operator=(Stream&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(stream_, other.stream_);
  return *this;
}

Event::Event(DevicePtr device, bool timing) : device_(std::move(device)) {
  SABREWING_DRIVER(event_create(&event_, timing ? 0 : kEventDisableTiming));
}

Event::~Event() {
  if (event_ != nullptr) driver().event_destroy(event_);
}

Event::Event(Event&& other) noexcept
    : device_(std::move(other.device_)), event_(std::exchange(other.event_, nullptr)) {}

Event& Event::operator=(Event&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(event_, other.event_);
  return *this;
}

void Event::record(StreamHandle stream) const { SABREWING_DRIVER(event_record(event_, stream)); }

void Event::synchronize() const { SABREWING_DRIVER(event_synchronize(event_)); }

void Event::wait(StreamHandle stream) const { SABREWING_DRIVER(stream_wait_event(stream, event_, 0)); }

double Event::microseconds_since(const Event& start) const {
  float milliseconds = 0;
  SABREWING_DRIVER(event_elapsed_time(&milliseconds, start.event_, event_));
  return 1e3 * milliseconds;
}

Graph Graph::capture(DevicePtr device, StreamHandle stream, const std::function<void()>& enqueue) {
  struct CapturedGraph {
    GraphHandle graph = nullptr;
    ~CapturedGraph() {
      if (graph != nullptr) driver().graph_destroy(graph);
    }
  } captured;

  const std::uint64_t launches_before = launch_count();
  SABREWING_DRIVER(stream_begin_capture(stream, kCaptureThreadLocal));
  try {
    enqueue();
  } catch (...) {
    driver().stream_end_capture(stream, &captured.graph);
    throw;
  }
  SABREWING_DRIVER(stream_end_capture(stream, &captured.graph));

  Graph graph;
  graph.device_ = std::move(device);
  const std::uint64_t launches = launch_count() - launches_before;
  graph.label_ =
      intern(fmt::format("graph of {} launches ({})", launches,
                         launches == 0 ? "" : recent_launches(std::min<std::uint64_t>(launches, 8))));
  SABREWING_DRIVER(graph_nodes(captured.graph, nullptr, &graph.nodes_));
  SABREWING_DRIVER(graph_instantiate(&graph.exec_, captured.graph, 0));
  return graph;
}

Graph::~Graph() {
  if (exec_ != nullptr) driver().graph_exec_destroy(exec_);
}

Graph::Graph(Graph&& other) noexcept
    : device_(std::move(other.device_)),
      exec_(std::exchange(other.exec_, nullptr)),
      nodes_(other.nodes_),
      label_(other.label_) {}

Graph& Graph::operator=(Graph&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(exec_, other.exec_);
  std::swap(nodes_, other.nodes_);
  std::swap(label_, other.label_);
  return *this;
}

void Graph::launch(StreamHandle stream) const {
  record_launch(label_, {1, 1, 1});
  SABREWING_DRIVER(graph_launch(exec_, stream));
}

}  // namespace sabrewing::jit
