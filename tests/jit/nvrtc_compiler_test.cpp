#include "jit/nvrtc_compiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "jit/nvrtc_library.h"
#include "temporary_folder.h"

namespace sabrewing::jit {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

KernelSource scale_source(std::string_view architecture = "sm_90a") {
  KernelSource source;
  source.name = "scale";
  source.headers = std::make_shared<HeaderSet>(std::vector<std::pair<std::string, std::string>>{
      {"math/factor.cuh", "#pragma once\n#define FACTOR 3.0f\n"},
      {"math/scale.cuh",
       "#pragma once\n#include \"math/factor.cuh\"\n"
       "template <int N> __global__ void scale(float* x) { x[threadIdx.x] *= N * FACTOR; }\n"}});
  source.source = "#include \"math/scale.cuh\"\n";
  source.expressions = {"scale<2>", "scale<5>"};
  source.architecture = Architecture::parse(architecture);
  return source;
}

#define REQUIRE_NVRTC(compiler) \
  if (const Feasibility feasible = (compiler).available(); !feasible) GTEST_SKIP() << feasible.reason

class CompilerArchitectures : public ::testing::TestWithParam<const char*> {};

TEST_P(CompilerArchitectures, GivesACubinForTheExactArchitecture) {
  Compiler compiler;
  REQUIRE_NVRTC(compiler);
  const auto compiled = compiler.compile(scale_source(GetParam()));
  ASSERT_GT(compiled->cubin.size(), 64u);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(compiled->cubin.data()), 4),
            "\x7f"
            "ELF");
  ASSERT_EQ(compiled->functions.size(), 2u);
  EXPECT_EQ(compiled->function("scale<2>").lowered_name, "_Z5scaleILi2EEvPf");
  EXPECT_EQ(compiled->function("_Z5scaleILi5EEvPf").expression, "scale<5>");
  EXPECT_GT(compiled->function("scale<2>").resources.registers, 0);
  EXPECT_EQ(compiled->function("scale<2>").resources.spill_store_bytes, 0);
  EXPECT_EQ(compiled->warnings, "");
  EXPECT_EQ(compiled->architecture.to_string(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Jit, CompilerArchitectures,
                         ::testing::Values("sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_103a",
                                           "sm_120a"),
                         [](const auto& test) { return std::string(test.param); });

template <typename Body>
void expect_error(ErrorCode code, const std::vector<std::string>& parts, const Body& body) {
  try {
    body();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const std::string& part : parts) EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST(Compiler, AnErrorCarriesTheDescriptorAndTheLog) {
  Compiler compiler;
  REQUIRE_NVRTC(compiler);
  KernelSource source = scale_source();
  source.name = "gemm int4 g128";
  source.source = "#include \"math/scale.cuh\"\nint oops = undefined_thing;\n";
  for (int i = 0; i < 2; ++i)
    expect_error(ErrorCode::kInvalidArgument,
                 {"gemm int4 g128", "sm_90a", "nvrtc-", "kernel.cu(2)", "undefined_thing"},
                 [&] { compiler.compile(source); });
  EXPECT_EQ(compiler.counters().failed, 2u) << "a failure must not be remembered as a result";

  source = scale_source();
  source.source = "#include \"absent.cuh\"\n";
  expect_error(ErrorCode::kInvalidArgument, {"absent.cuh"}, [&] { compiler.compile(source); });
  source = scale_source();
  source.options = {"--no-such-option"};
  expect_error(ErrorCode::kInvalidArgument, {"--no-such-option"}, [&] { compiler.compile(source); });
  source = scale_source();
  source.expressions = {"no_such_kernel<3>"};
  expect_error(ErrorCode::kInvalidArgument, {"no_such_kernel"}, [&] { compiler.compile(source); });
  source = scale_source();
  source.architecture = Architecture::parse("sm_20");
  expect_error(ErrorCode::kUnsupported, {"does not know sm_20", "sm_90"}, [&] { compiler.compile(source); });
  expect_error(ErrorCode::kNotFound, {"scale has no kernel scale<7>"},
               [&] { compiler.compile(scale_source())->function("scale<7>"); });
}

TEST(Compiler, WithoutNvrtcTheErrorListsThePathsTried) {
  Compiler compiler({"/nonexistent/libnvrtc.so.13", nullptr});
  EXPECT_THAT(compiler.available().reason, HasSubstr("/nonexistent/libnvrtc.so.13 (no such file)"));
  expect_error(ErrorCode::kNotFound,
               {"the NVRTC compiler not found", "/nonexistent/libnvrtc.so.13", "SABREWING_NVRTC"},
               [&] { compiler.compile(scale_source()); });
  expect_error(ErrorCode::kUnsupported, {"libm", "nvrtcVersion"}, [] { NvrtcLibrary library("libm.so.6"); });
}

TEST(Compiler, FindsTheLayoutsOfToolkitAndPythonPackages) {
  Compiler compiler;
  REQUIRE_NVRTC(compiler);
  const std::string library = NvrtcLibrary().path();
  for (const char* layout :
       {"toolkit/lib64", "site-packages/nvidia/cu13/lib", "site-packages/nvidia/cuda_nvrtc/lib"}) {
    TemporaryFolder folder;
    const fs::path place = folder.path() / layout;
    fs::create_directories(place);
    fs::create_symlink(library, place / fs::path(library).filename());
    EXPECT_EQ(NvrtcLibrary(place.string()).path(), library) << layout;
  }
  TemporaryFolder empty;
  expect_error(ErrorCode::kNotFound, {empty.path().string() + "/libnvrtc.so.1? (no match)"},
               [&] { NvrtcLibrary library_in(empty.path().string()); });
}

TEST(Compiler, SearchesTheEnvironment) {
  EXPECT_EXIT(
      {
        unsetenv("SABREWING_NVRTC");
        setenv("CUDA_HOME", "/opt/one", 1);
        setenv("VIRTUAL_ENV", "/opt/two", 1);
        setenv("PYTHONPATH", "/opt/three:/opt/four", 1);
        for (const std::string& path : NvrtcLibrary::candidates()) std::fprintf(stderr, "%s\n", path.c_str());
        setenv("SABREWING_NVRTC", "/opt/five.so", 1);
        std::_Exit(NvrtcLibrary::candidates() == std::vector<std::string>{"/opt/five.so"} ? 0 : 1);
      },
      ::testing::ExitedWithCode(0),
      "libnvrtc.so.13\n(.|\n)*/opt/one/lib64/libnvrtc.so.1\\?\n(.|\n)*/usr/local/cuda/lib64/"
      "libnvrtc.so.1\\?\n(.|\n)*"
      "/opt/two/lib/python3\\*/site-packages/nvidia/cu13/lib/libnvrtc.so.1\\?\n(.|\n)*"
      "/opt/three/nvidia/cuda_nvrtc/lib/libnvrtc.so.1\\?\n(.|\n)*/opt/four/nvidia/cu13/lib");
}

TEST(Compiler, CompilesOnceHoweverOftenAsked) {
  Compiler compiler;
  REQUIRE_NVRTC(compiler);
  const auto first = compiler.compile(scale_source());
  EXPECT_EQ(compiler.compile(scale_source()), first);
  EXPECT_EQ(compiler.counters().compiled, 1u);
  EXPECT_EQ(compiler.counters().memory_hits, 1u);

  std::vector<KernelSource> same(8, scale_source("sm_80"));
  const auto outcomes = compiler.compile_all(same, 4);
  for (const CompileOutcome& outcome : outcomes) EXPECT_EQ(outcome.kernels, outcomes[0].kernels);
  EXPECT_EQ(compiler.counters().compiled, 2u);
}

TEST(Compiler, EverythingThatChangesTheCodeChangesTheKey) {
  Compiler compiler;
  REQUIRE_NVRTC(compiler);
  std::vector<KernelSource> sources(6, scale_source());
  sources[1].source += "// \n";
  sources[2].options = {"--use_fast_math"};
  sources[3].expressions = {"scale<2>"};
  sources[4].architecture = Architecture::parse("sm_89");
  auto files = scale_source().headers->files();
  files[0].second = "#pragma once\n#define FACTOR 4.0f\n";
  sources[5].headers = std::make_shared<HeaderSet>(files);
  for (const CompileOutcome& outcome : compiler.compile_all(sources)) EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(compiler.counters().compiled, sources.size());
  KernelSource renamed = scale_source();
  renamed.name = "another descriptor";
  compiler.compile(renamed);
  EXPECT_EQ(compiler.counters().compiled, sources.size());
}

TEST(Compiler, OneFailureInABatchDoesNotStopTheOthers) {
  Compiler compiler;
  REQUIRE_NVRTC(compiler);
  std::vector<KernelSource> sources(3, scale_source());
  sources[1].source = "broken";
  const auto outcomes = compiler.compile_all(sources, 2);
  EXPECT_TRUE(outcomes[0].kernels && outcomes[2].kernels);
  EXPECT_FALSE(outcomes[1].kernels);
  EXPECT_THAT(outcomes[1].error, HasSubstr("broken"));
}

TEST(Compiler, ReportsSpillsAndSharedMemory) {
  Compiler compiler;
  REQUIRE_NVRTC(compiler);
  KernelSource source;
  source.name = "spills";
  source.architecture = Architecture::parse("sm_90a");
  source.source = R"(
extern "C" __global__ void __launch_bounds__(1024) crowded(float* p, int n) {
  float v[96];
  for (int i = 0; i < 96; ++i) v[i] = p[i * n + threadIdx.x];
  #pragma unroll 1
  for (int j = 0; j < n; ++j)
    #pragma unroll
    for (int i = 0; i < 96; ++i) v[i] = v[i] * v[(i + 7) % 96] + v[(i * 5) % 96];
  for (int i = 0; i < 96; ++i) p[i * n + threadIdx.x] = v[i];
}
extern "C" __global__ void roomy(float* p) {
  __shared__ float s[256];
  s[threadIdx.x] = p[threadIdx.x];
  __syncthreads();
  p[threadIdx.x] = s[255 - threadIdx.x];
}
)";
  const auto compiled = compiler.compile(source);
  const KernelResources& crowded = compiled->function("crowded").resources;
  EXPECT_EQ(crowded.registers, 64);
  EXPECT_GT(crowded.spill_store_bytes, 0);
  EXPECT_GT(crowded.spill_load_bytes, 0);
  EXPECT_GT(crowded.stack_bytes, 0);
  const KernelResources& roomy = compiled->function("roomy").resources;
  EXPECT_EQ(roomy.shared_bytes, 1024);
  EXPECT_EQ(roomy.spill_store_bytes, 0);
  EXPECT_EQ(roomy.stack_bytes, 0);
}

TEST(Compiler, KeepsCompiledKernelsBetweenProcesses) {
  TemporaryFolder folder;
  const auto cache = std::make_shared<CubinCache>(folder.path());
  Compiler first({std::nullopt, cache});
  REQUIRE_NVRTC(first);
  const auto compiled = first.compile(scale_source());
  EXPECT_EQ(first.counters().disk_misses, 1u);
  EXPECT_EQ(first.counters().compiled, 1u);

  Compiler second({std::nullopt, cache});
  const auto loaded = second.compile(scale_source());
  EXPECT_EQ(second.counters().compiled, 0u) << "compiled again after the warm-up";
  EXPECT_EQ(second.counters().disk_hits, 1u);
  EXPECT_EQ(loaded->cubin, compiled->cubin);
  EXPECT_EQ(loaded->function("scale<5>").resources, compiled->function("scale<5>").resources);
  second.compile(scale_source());
  EXPECT_EQ(second.counters().memory_hits, 1u);

  Compiler without_nvrtc({"/nonexistent", cache});
  EXPECT_EQ(without_nvrtc.compile(scale_source())->cubin, compiled->cubin);
  EXPECT_EQ(without_nvrtc.counters().disk_hits, 1u);
  expect_error(ErrorCode::kNotFound, {"/nonexistent"}, [&] { without_nvrtc.compile(scale_source("sm_80")); });

  for (const auto& entry : fs::directory_iterator(folder.path())) fs::resize_file(entry.path(), 100);
  Compiler third({std::nullopt, cache});
  EXPECT_EQ(third.compile(scale_source())->cubin, compiled->cubin);
  EXPECT_EQ(third.counters().compiled, 1u);
  EXPECT_EQ(cache->rejected(), 1u);
  Compiler fourth({std::nullopt, cache});
  fourth.compile(scale_source());
  EXPECT_EQ(fourth.counters().compiled, 0u) << "the damaged entry was not replaced";
}

TEST(Compiler, TwoProcessesCompileTheSameKernel) {
  if (const Feasibility feasible = Compiler().available(); !feasible) GTEST_SKIP() << feasible.reason;
  TemporaryFolder folder;
  std::vector<pid_t> children;
  for (int i = 0; i < 2; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      const auto cache = std::make_shared<CubinCache>(folder.path());
      Compiler compiler({std::nullopt, cache});
      bool good = false;
      try {
        good = compiler.compile(scale_source())->functions.size() == 2 && cache->rejected() == 0;
      } catch (const Error&) {
      }
      std::_Exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  Compiler compiler({std::nullopt, std::make_shared<CubinCache>(folder.path())});
  compiler.compile(scale_source());
  EXPECT_EQ(compiler.counters().compiled, 0u);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
}

TEST(ResourceReport, IsSplitFromTheWarnings) {
  const ResourceReport report = parse_resource_report(
      "kernel.cu(3): warning #177-D: variable \"x\" was declared but never referenced\n"
      "ptxas info    : 8 bytes gmem, 4 bytes cmem[4]\n"
      "ptxas info    : Compiling entry function 'one' for 'sm_90a'\n"
      "ptxas info    : Function properties for one\n"
      "ptxas         .     96 bytes stack frame, 16 bytes spill stores, 24 bytes spill loads\n"
      "ptxas info    : Used 168 registers, used 9 barriers, 96 bytes cumulative stack size, 1024 bytes smem\n"
      "ptxas info    : Compile time = 8.1 ms\n"
      "ptxas info    : Function properties for _Z6helperv\n"
      "    200 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads\n"
      "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized\n"
      "ptxas info    : Compiling entry function 'two' for 'sm_80'\n"
      "ptxas info    : Function properties for two\n"
      "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
      "ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]\n");
  ASSERT_EQ(report.functions.size(), 2u);
  EXPECT_EQ(report.functions[0].lowered_name, "one");
  EXPECT_EQ(report.functions[0].resources, (KernelResources{168, 20, 32, 200, 1024}));
  EXPECT_EQ(report.functions[1].lowered_name, "two");
  EXPECT_EQ(report.functions[1].resources, (KernelResources{8, 0, 0, 0, 0}));
  EXPECT_EQ(
      report.rest,
      "kernel.cu(3): warning #177-D: variable \"x\" was declared but never referenced\n"
      "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized\n");
  EXPECT_TRUE(parse_resource_report("").functions.empty());
}

TEST(Architecture, ParsesWhatItPrintsAndNothingElse) {
  for (const char* text : {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_100f", "sm_103a", "sm_120a"})
    EXPECT_EQ(Architecture::parse(text).to_string(), text);
  for (const char* text :
       {"", "sm_", "sm_9", "90a", "sm_90b", "sm_90aa", "sm_1000", "compute_90", "sm_90 ", "sm_-9"})
    EXPECT_THROW(Architecture::parse(text), Error) << text;
  EXPECT_EQ(Architecture::of_device(8, 0).to_string(), "sm_80");
  EXPECT_EQ(Architecture::of_device(8, 9).to_string(), "sm_89");
  EXPECT_EQ(Architecture::of_device(9, 0).to_string(), "sm_90a");
  EXPECT_EQ(Architecture::of_device(10, 3).to_string(), "sm_103a");
  EXPECT_EQ(Architecture::of_device(12, 0).to_string(), "sm_120a");
}

TEST(HeaderSet, TakesEmbeddedFilesAndRefusesTwins) {
  const embedded::EmbeddedFile files[] = {{"device/b.cuh", "bb", 2}, {"device/a.cuh", "a", 1}};
  const HeaderSet headers(std::span<const embedded::EmbeddedFile>(files), "device/");
  const std::vector<std::pair<std::string, std::string>> expected = {{"a.cuh", "a"}, {"b.cuh", "bb"}};
  EXPECT_EQ(headers.files(), expected);
  EXPECT_THROW(HeaderSet({{"a", "1"}, {"a", "2"}}), Error);
}

}  // namespace
}  // namespace sabrewing::jit
