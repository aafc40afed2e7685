#pragma once

#include <cstddef>
#include <span>

namespace sabrewing {

/// Tells the system that the pages wholly inside `range` are not needed any more. Pages of a mapped file are
/// read again when touched; those of other memory are then zero.
void discard_pages(std::span<const std::byte> range);

/// Owning, move-only host memory aligned to 64 bytes (huge pages are requested for large sizes).
/// The content is uninitialised. Throws `Error{kOutOfMemory}` naming the size when it cannot be had.
class HostBuffer {
 public:
  HostBuffer() = default;
  explicit HostBuffer(std::size_t bytes);
  ~HostBuffer();
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<std::byte> span() { return {data_, size_}; }
  std::span<const std::byte> span() const { return {data_, size_}; }

  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace sabrewing
