#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "jit/architecture.h"
#include "jit/driver.h"

namespace sabrewing::jit {

/// What the planner needs to know of a GPU.
struct DeviceInfo {
  int ordinal = 0;
  std::string name;
  int compute_major = 0;
  int compute_minor = 0;
  int multiprocessors = 0;
  int max_shared_bytes_per_block = 0;  ///< dynamic shared memory with the opt-in, bytes
  int shared_bytes_per_multiprocessor = 0;
  int reserved_shared_bytes_per_block = 0;
  int registers_per_multiprocessor = 0;
  int l2_bytes = 0;
  int clock_kilohertz = 0;
  int memory_clock_kilohertz = 0;
  int memory_bus_bits = 0;
  bool has_clusters = false;
  std::size_t memory_bytes = 0;
  Architecture architecture;  ///< what code for this device is compiled for
};

/// One GPU with its primary context retained, shared with the CUDA runtime and other libraries. Everything
/// below keeps its device alive. The context must be current on the thread that allocates, copies, loads or
/// launches: call `make_current` once per thread (the CUDA runtime does the same for its own threads).
class Device {
 public:
  /// The device of this number; the same object while one is alive. Makes its context current.
  static std::shared_ptr<Device> open(int ordinal = 0);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const DeviceInfo& info() const { return info_; }
  void make_current() const;
  /// Waits for all work on the device.
  void synchronize() const;

  struct Memory {
    std::size_t free;
    std::size_t total;
  };
  Memory memory() const;

 private:
  explicit Device(int ordinal);

  int handle_ = 0;
  ContextHandle context_ = nullptr;
  DeviceInfo info_;
};

using DevicePtr = std::shared_ptr<Device>;

int device_count();

/// Owning device memory, aligned to 256 bytes, uninitialised. Zero bytes give a null pointer.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(DevicePtr device, std::size_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;

  /// A device pointer.
  void* data() const { return data_; }
  std::size_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  DevicePtr device_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Owning page-locked host memory.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(DevicePtr device, std::size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<std::byte> span() const { return {data_, size_}; }

 private:
  DevicePtr device_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Stream-ordered copies. Pageable host memory may be reused when `copy_to_device` returns; `copy_to_host`
/// is complete when the stream was synchronised.
void copy_to_device(void* to, std::span<const std::byte> from, StreamHandle stream);
void copy_to_host(std::span<std::byte> to, const void* from, StreamHandle stream);
void copy_on_device(void* to, const void* from, std::size_t bytes, StreamHandle stream);
void set_bytes(void* to, unsigned char value, std::size_t bytes, StreamHandle stream);

/// Whether `pointer` is memory that kernels of the current context can read.
bool is_device_pointer(const void* pointer);
/// Whether the host can read `pointer`, as far as the driver knows it: not memory of a GPU alone.
bool is_host_pointer(const void* pointer);

void synchronize(StreamHandle stream);
bool is_capturing(StreamHandle stream);

/// An owned non-blocking stream.
class Stream {
 public:
  explicit Stream(DevicePtr device, int priority = 0);
  ~Stream();
  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&& other) noexcept;

  StreamHandle get() const { return stream_; }
  operator StreamHandle() const { return stream_; }
  void synchronize() const { jit::synchronize(stream_); }

 private:
  DevicePtr device_;
  StreamHandle stream_ = nullptr;
};

class Event {
 public:
  /// Without timing the event is cheaper and only orders streams.
  explicit Event(DevicePtr device, bool timing = true);
  ~Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&& other) noexcept;

  EventHandle get() const { return event_; }
  void record(StreamHandle stream) const;
  void synchronize() const;
  /// Makes later work of `stream` wait for this event.
  void wait(StreamHandle stream) const;
  /// Microseconds from `start` to this event; both recorded with timing and complete.
  double microseconds_since(const Event& start) const;

 private:
  DevicePtr device_;
  EventHandle event_ = nullptr;
};

/// An executable CUDA graph.
class Graph {
 public:
  /// Captures what `enqueue` puts on `stream`, which must not be the default stream. Nothing runs yet. When
  /// `enqueue` throws, the capture is abandoned and the stream is usable again.
  static Graph capture(DevicePtr device, StreamHandle stream, const std::function<void()>& enqueue);
  ~Graph();
  Graph(Graph&& other) noexcept;
  Graph& operator=(Graph&& other) noexcept;

  std::size_t nodes() const { return nodes_; }
  void launch(StreamHandle stream) const;

 private:
  Graph() = default;

  DevicePtr device_;
  GraphExecHandle exec_ = nullptr;
  std::size_t nodes_ = 0;
  const std::string* label_ = nullptr;
};

}  // namespace sabrewing::jit
