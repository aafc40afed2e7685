#pragma once

#include <cstddef>

namespace sabrewing::embedded {

/// A text file compiled into the binary by `sabrewing_embed` (cmake/embed_sources.cmake). `data` is
/// followed by a zero byte that `size` does not count.
struct EmbeddedFile {
  const char* path;
  const char* data;
  std::size_t size;
};

}  // namespace sabrewing::embedded
