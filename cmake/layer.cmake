# sabrewing_unity(TARGET): with SABREWING_UNITY the target's files are compiled in groups, each header once a group.
function(sabrewing_unity target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${SABREWING_UNITY} UNITY_BUILD_BATCH_SIZE 8)
  # GCC's warning about types of an anonymous namespace is meant for headers, and takes the group's files for such.
  if(SABREWING_UNITY AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
endfunction()

# sabrewing_layer(NAME SOURCES ... [DEPENDS layer|target ...] [PRIVATE_DEPENDS ...]): one static library per layer.
function(sabrewing_layer name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(sabrewing_${name} STATIC ${arg_SOURCES})
  target_include_directories(sabrewing_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(sabrewing_${name} PUBLIC ${arg_DEPENDS} PRIVATE sabrewing_warnings ${arg_PRIVATE_DEPENDS})
  sabrewing_unity(sabrewing_${name})
endfunction()

# sabrewing_test(NAME SOURCES ... DEPENDS ... [LABELS fast|slow|gpu]): one GoogleTest binary, one CTest entry.
# Tests run with the repository as SABREWING_SOURCE_DIR.
function(sabrewing_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;DEPENDS;LABELS" ${ARGN})
  if(NOT arg_LABELS)
    set(arg_LABELS fast)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_DEPENDS} sabrewing_warnings GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE SABREWING_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT} SKIP_RETURN_CODE 77)
endfunction()

# sabrewing_fuzzer(NAME SOURCES ... DEPENDS ... [CORPUS folder]): a libFuzzer target, built only with
# SABREWING_BUILD_FUZZERS. CORPUS holds the committed seeds (default: corpus/NAME beside the CMakeLists.txt). Each
# target is a line "NAME CORPUS" of fuzzers.txt in the build folder, which .ci/run reads.
function(sabrewing_fuzzer name)
  if(NOT SABREWING_BUILD_FUZZERS)
    return()
  endif()
  cmake_parse_arguments(arg "" "CORPUS" "SOURCES;DEPENDS" ${ARGN})
  if(NOT arg_CORPUS)
    set(arg_CORPUS corpus/${name})
  endif()
  get_filename_component(corpus "${arg_CORPUS}" ABSOLUTE)
  if(NOT IS_DIRECTORY "${corpus}")
    message(FATAL_ERROR "fuzzer ${name}: no seed corpus at ${corpus}")
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_DEPENDS} sabrewing_warnings -fsanitize=fuzzer)
  set_property(GLOBAL APPEND_STRING PROPERTY sabrewing_fuzzers "${name} ${corpus}\n")
  get_property(list GLOBAL PROPERTY sabrewing_fuzzers)
  file(WRITE "${PROJECT_BINARY_DIR}/fuzzers.txt" "${list}")
endfunction()
