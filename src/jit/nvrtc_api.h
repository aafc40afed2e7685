#pragma once

#include <cstddef>

struct _nvrtcProgram;

namespace sabrewing::jit {

using NvrtcProgramHandle = _nvrtcProgram*;

/// Values of nvrtcResult that are told apart.
namespace nvrtc_result {
inline constexpr int kSuccess = 0;
inline constexpr int kOutOfMemory = 1;
inline constexpr int kInvalidOption = 5;
inline constexpr int kCompilation = 6;
}  // namespace nvrtc_result

/// Entry points of libnvrtc; X(member, symbol, parameters).
#define SABREWING_NVRTC_FUNCTIONS(X)                                                                   \
  X(version, nvrtcVersion, (int* major, int* minor))                                                   \
  X(supported_architecture_count, nvrtcGetNumSupportedArchs, (int* count))                             \
  X(supported_architectures, nvrtcGetSupportedArchs, (int* numbers))                                   \
  X(create_program, nvrtcCreateProgram,                                                                \
    (NvrtcProgramHandle * program, const char* source, const char* name, int headers,                  \
     const char* const* header_texts, const char* const* header_names))                                \
  X(destroy_program, nvrtcDestroyProgram, (NvrtcProgramHandle * program))                              \
  X(add_name_expression, nvrtcAddNameExpression, (NvrtcProgramHandle program, const char* expression)) \
  X(compile_program, nvrtcCompileProgram,                                                              \
    (NvrtcProgramHandle program, int options, const char* const* option_texts))                        \
  X(lowered_name, nvrtcGetLoweredName,                                                                 \
    (NvrtcProgramHandle program, const char* expression, const char** name))                           \
  X(cubin_size, nvrtcGetCUBINSize, (NvrtcProgramHandle program, std::size_t* bytes))                   \
  X(cubin, nvrtcGetCUBIN, (NvrtcProgramHandle program, char* bytes))                                   \
  X(log_size, nvrtcGetProgramLogSize, (NvrtcProgramHandle program, std::size_t* bytes))                \
  X(log, nvrtcGetProgramLog, (NvrtcProgramHandle program, char* text))

struct NvrtcApi {
#define SABREWING_DECLARE(member, symbol, parameters) int(*member) parameters = nullptr;
  SABREWING_NVRTC_FUNCTIONS(SABREWING_DECLARE)
#undef SABREWING_DECLARE
  const char* (*error_string)(int result) = nullptr;
};

}  // namespace sabrewing::jit
