#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "jit/cubin_cache.h"
#include "jit/kernel_source.h"

namespace sabrewing::jit {

struct CompilerOptions {
  /// A file or folder with NVRTC; nothing for the usual places (`NvrtcLibrary::candidates`).
  std::optional<std::string> nvrtc_path;
  /// Where compiled kernels are kept between processes (`CubinCache::open_default`); null for nowhere.
  std::shared_ptr<CubinCache> cache;
};

/// What a compiler did since it was made. After warm-up `compiled` stays as it is.
struct CompilerCounters {
  std::uint64_t compiled = 0;     ///< runs of NVRTC that gave code
  std::uint64_t failed = 0;       ///< runs of NVRTC that did not
  std::uint64_t memory_hits = 0;  ///< asked for again in this process
  std::uint64_t disk_hits = 0;    ///< loaded from the cache
  std::uint64_t disk_misses = 0;  ///< not in the cache, or not usable there
};

/// One entry of `compile_all`: the kernels, or the error's text.
struct CompileOutcome {
  std::shared_ptr<const CompiledKernels> kernels;
  std::string error;
  ErrorCode code = ErrorCode::kInternal;  ///< of the error
};

/// Compiles for the exact architecture, on any machine that has NVRTC; without it, what the cache holds by
/// any compiler is still served. Results are kept for the life of the compiler. Safe to use from several
/// threads; the same source asked for twice at once is compiled once.
class Compiler {
 public:
  explicit Compiler(CompilerOptions options = {});
  ~Compiler();

  /// Throws `Error{kNotFound}` without NVRTC (the paths tried), `Error{kUnsupported}` for an architecture the
  /// compiler does not know, `Error{kInvalidArgument}` with descriptor and log when the source does not
  /// compile.
  std::shared_ptr<const CompiledKernels> compile(const KernelSource& source);

  /// All of them, on `threads` threads (0: every processor). One failure does not stop the others.
  std::vector<CompileOutcome> compile_all(std::span<const KernelSource> sources, int threads = 0);

  CompilerCounters counters() const;

  /// Whether NVRTC can be opened, with the paths tried when not.
  Feasibility available();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sabrewing::jit
