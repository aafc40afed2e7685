#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/embedded.h"
#include "jit/architecture.h"
#include "jit/sha256.h"

namespace sabrewing::jit {

/// Device headers given to the compiler in memory. An `#include` names a header by exactly the path it has
/// here, from whichever file includes it: there is no relative lookup.
class HeaderSet {
 public:
  /// (path, text) pairs; a path given twice throws `Error{kInvalidArgument}`.
  explicit HeaderSet(std::vector<std::pair<std::string, std::string>> files);
  /// What `sabrewing_embed` made: HeaderSet({embedded::name, embedded::nameCount}). `strip` is cut off the
  /// front of each path.
  explicit HeaderSet(std::span<const embedded::EmbeddedFile> files, std::string_view strip = {});

  const std::vector<std::pair<std::string, std::string>>& files() const { return files_; }
  /// Of all paths and texts.
  const Digest& digest() const { return digest_; }

 private:
  std::vector<std::pair<std::string, std::string>> files_;
  Digest digest_{};
};

/// One translation unit for the compiler.
struct KernelSource {
  std::string name;  ///< the descriptor in errors, listings and launch records: "gemm_sm90 int4 g128 x bf16"
  std::string source;
  std::shared_ptr<const HeaderSet> headers;  ///< may be null
  std::vector<std::string> options;          ///< besides architecture, C++20 and the resource report
  std::vector<std::string> expressions;      ///< template instances wanted: "gemm<64, 128>"
  Architecture architecture;
};

/// What the assembler reports of one kernel.
struct KernelResources {
  int registers = 0;
  int spill_store_bytes = 0;
  int spill_load_bytes = 0;
  int stack_bytes = 0;
  int shared_bytes = 0;  ///< static

  bool operator==(const KernelResources&) const = default;
};

/// A compiled translation unit. Immutable; no GPU is needed to have one.
struct CompiledKernels {
  struct Function {
    std::string expression;    ///< as in `KernelSource::expressions`; empty for an extern "C" kernel
    std::string lowered_name;  ///< what the cubin calls it
    KernelResources resources;
  };

  std::string name;
  std::string compiler;  ///< "nvrtc-13.0"
  Architecture architecture;
  std::vector<std::byte> cubin;
  std::vector<Function> functions;  ///< every entry point of the cubin
  std::string warnings;             ///< the log without the resource report; empty when clean

  /// By expression or lowered name. Throws `Error{kNotFound}`.
  const Function& function(std::string_view expression_or_name) const;
};

/// Splits the assembler's verbose report out of a compiler log: entry points with their resources (what
/// non-inlined device functions spill counts for the entry point before them), and the remaining lines.
struct ResourceReport {
  std::vector<CompiledKernels::Function> functions;
  std::string rest;
};
ResourceReport parse_resource_report(std::string_view log);

}  // namespace sabrewing::jit
