#include "jit/nvrtc_compiler.h"

#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <utility>

#include "core/error.h"
#include "core/thread_pool.h"
#include "jit/nvrtc_library.h"
#include "jit/sha256.h"

namespace sabrewing::jit {

namespace {

using CompiledPtr = std::shared_ptr<const CompiledKernels>;

/// What the compiler is asked for, as a digest: everything that decides the code but the compiler itself.
Digest content_digest(const KernelSource& source, const std::vector<std::string>& options) {
  Sha256 hash;
  hash.update_field(source.source);
  const auto add_list = [&hash](const std::vector<std::string>& list) {
    hash.update_field(std::to_string(list.size()));
    for (const std::string& item : list) hash.update_field(item);
  };
  add_list(options);
  add_list(source.expressions);
  if (source.headers) hash.update_field(to_hex(source.headers->digest()));
  return hash.finish();
}

std::vector<std::string> full_options(const KernelSource& source) {
  std::vector<std::string> options = {"--gpu-architecture=" + source.architecture.to_string(), "--std=c++20",
                                      "--ptxas-options=-v"};
  options.insert(options.end(), source.options.begin(), source.options.end());
  return options;
}

class Program {
 public:
  Program(const NvrtcApi& api, const KernelSource& source) : api_(api) {
    std::vector<const char*> texts;
    std::vector<const char*> names;
    if (source.headers) {
      for (const auto& [path, text] : source.headers->files()) {
        names.push_back(path.c_str());
        texts.push_back(text.c_str());
      }
    }
    check(api_.create_program(&handle_, source.source.c_str(), "kernel.cu", static_cast<int>(texts.size()),
                              texts.data(), names.data()),
          "nvrtcCreateProgram");
  }
  ~Program() { api_.destroy_program(&handle_); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  NvrtcProgramHandle get() const { return handle_; }

  void check(int result, const char* call) const {
    if (result == nvrtc_result::kSuccess) return;
    fail(result == nvrtc_result::kOutOfMemory ? ErrorCode::kOutOfMemory : ErrorCode::kInternal,
         "[nvrtc] {} answers {}", call, api_.error_string(result));
  }

  std::string log() const {
    std::size_t size = 0;
    if (api_.log_size(handle_, &size) != nvrtc_result::kSuccess || size <= 1) return {};
    std::string text(size, '\0');
    if (api_.log(handle_, text.data()) != nvrtc_result::kSuccess) return {};
    text.resize(text.find('\0') == std::string::npos ? size : text.find('\0'));
    return text;
  }

 private:
  const NvrtcApi& api_;
  NvrtcProgramHandle handle_ = nullptr;
};

CompiledPtr run_nvrtc_once(const NvrtcLibrary& library, const KernelSource& source,
                           const std::vector<std::string>& options) {
  const NvrtcApi& api = library.api();
  const Program program(api, source);
  for (const std::string& expression : source.expressions)
    program.check(api.add_name_expression(program.get(), expression.c_str()), "nvrtcAddNameExpression");

  std::vector<const char*> option_texts;
  for (const std::string& option : options) option_texts.push_back(option.c_str());
  const int result =
      api.compile_program(program.get(), static_cast<int>(option_texts.size()), option_texts.data());
  if (result != nvrtc_result::kSuccess) {
    const ErrorCode code = result == nvrtc_result::kOutOfMemory ? ErrorCode::kOutOfMemory
                           : result == nvrtc_result::kCompilation || result == nvrtc_result::kInvalidOption
                               ? ErrorCode::kInvalidArgument
                               : ErrorCode::kInternal;
    fail(code, "[compile] {} for {} with {}: {}:\n{}", source.name, source.architecture.to_string(),
         library.version_text(), api.error_string(result), program.log());
  }

  auto compiled = std::make_shared<CompiledKernels>();
  ResourceReport report = parse_resource_report(program.log());
  compiled->name = source.name;
  compiled->compiler = library.version_text();
  compiled->architecture = source.architecture;
  compiled->functions = std::move(report.functions);
  compiled->warnings = std::move(report.rest);
  for (const std::string& expression : source.expressions) {
    const char* lowered = nullptr;
    program.check(api.lowered_name(program.get(), expression.c_str(), &lowered), "nvrtcGetLoweredName");
    for (CompiledKernels::Function& function : compiled->functions)
      if (function.lowered_name == lowered) function.expression = expression;
  }
  std::size_t size = 0;
  program.check(api.cubin_size(program.get(), &size), "nvrtcGetCUBINSize");
  compiled->cubin.resize(size);
  program.check(api.cubin(program.get(), reinterpret_cast<char*>(compiled->cubin.data())), "nvrtcGetCUBIN");
  return compiled;
}

CompiledPtr run_nvrtc(const NvrtcLibrary& library, const KernelSource& source,
                      std::vector<std::string> options) {
  SABREWING_CHECK(library.supports(source.architecture), kUnsupported,
                  "[compile] {}: {} ({}) does not know {}; it knows {}", source.name, library.version_text(),
                  library.path(), source.architecture.to_string(), library.supported_text());
  CompiledPtr compiled = run_nvrtc_once(library, source, options);
  if (!compiled->functions.empty()) return compiled;
  // Beside a driver, NVRTC keeps a cache of its own, and what comes from there has no report.
  options.emplace_back("--no-cache");
  return run_nvrtc_once(library, source, options);
}

}  // namespace

struct Compiler::Impl {
  CompilerOptions options;
  std::mutex library_mutex;
  std::optional<NvrtcLibrary> library;
  std::optional<Error> library_failure;
  std::mutex mutex;
  std::map<Digest, std::shared_future<CompiledPtr>> results;
  std::atomic<std::uint64_t> compiled{0};
  std::atomic<std::uint64_t> failed{0};
  std::atomic<std::uint64_t> memory_hits{0};
  std::atomic<std::uint64_t> disk_hits{0};
  std::atomic<std::uint64_t> disk_misses{0};

  const NvrtcLibrary& nvrtc() {
    const std::lock_guard lock(library_mutex);
    if (library_failure) throw Error(*library_failure);
    try {
      if (!library) library.emplace(options.nvrtc_path);
    } catch (const Error& error) {
      library_failure = error;
      throw;
    }
    return *library;
  }

  /// The compiler; null when there is none but `found` holds a cached result that needs none.
  const NvrtcLibrary* nvrtc_unless_cached(const Digest& content, CompiledPtr& found) {
    try {
      return &nvrtc();
    } catch (const Error&) {
      if (!options.cache) throw;
      auto cached = options.cache->load_of_any_compiler(content);
      if (!cached) throw;
      found = std::make_shared<const CompiledKernels>(std::move(*cached));
      return nullptr;
    }
  }

  CompiledPtr build(const KernelSource& source, const std::vector<std::string>& full, const Digest& content) {
    CompiledPtr result;
    const NvrtcLibrary* compiler = nvrtc_unless_cached(content, result);
    const CacheKey key{content, compiler != nullptr ? compiler->identity() : ""};
    if (compiler != nullptr && options.cache) {
      if (auto cached = options.cache->load(key))
        result = std::make_shared<const CompiledKernels>(std::move(*cached));
    }
    if (result) {
      ++disk_hits;
      return result;
    }
    if (options.cache) ++disk_misses;
    try {
      result = run_nvrtc(*compiler, source, full);
    } catch (const Error&) {
      ++failed;
      throw;
    }
    ++compiled;
    if (options.cache) options.cache->store(key, *result);
    return result;
  }
};

Compiler::Compiler(CompilerOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
}

Compiler::~Compiler() = default;

std::shared_ptr<const CompiledKernels> Compiler::compile(const KernelSource& source) {
  const std::vector<std::string> options = full_options(source);
  const Digest digest = content_digest(source, options);
  std::promise<CompiledPtr> promise;
  std::shared_future<CompiledPtr> result;
  bool mine = false;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto [found, added] = impl_->results.try_emplace(digest);
    if (added) found->second = promise.get_future().share();
    result = found->second;
    mine = added;
  }
  if (!mine) {
    CompiledPtr kernels = result.get();
    ++impl_->memory_hits;
    return kernels;
  }
  try {
    promise.set_value(impl_->build(source, options, digest));
  } catch (...) {
    {
      const std::lock_guard lock(impl_->mutex);
      impl_->results.erase(digest);
    }
    promise.set_exception(std::current_exception());
  }
  return result.get();
}

std::vector<CompileOutcome> Compiler::compile_all(std::span<const KernelSource> sources, int threads) {
  std::vector<CompileOutcome> outcomes(sources.size());
  ThreadPool pool(threads > 0 ? threads : available_processors());
  pool.parallel_for(static_cast<std::int64_t>(sources.size()), [&](std::int64_t index, int) {
    CompileOutcome& outcome = outcomes[static_cast<std::size_t>(index)];
    try {
      outcome.kernels = compile(sources[static_cast<std::size_t>(index)]);
    } catch (const Error& error) {
      outcome.error = error.what();
      outcome.code = error.code();
    }
  });
  return outcomes;
}

CompilerCounters Compiler::counters() const {
  return {impl_->compiled.load(), impl_->failed.load(), impl_->memory_hits.load(), impl_->disk_hits.load(),
          impl_->disk_misses.load()};
}

Feasibility Compiler::available() {
  try {
    impl_->nvrtc();
  } catch (const Error& error) {
    return Feasibility::no(error.what());
  }
  return Feasibility::yes();
}

}  // namespace sabrewing::jit
