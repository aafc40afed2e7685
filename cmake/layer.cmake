# sabrewing_layer(NAME SOURCES ... [DEPENDS layer|target ...] [PRIVATE_DEPENDS ...]): one static library per layer.
function(sabrewing_layer name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(sabrewing_${name} STATIC ${arg_SOURCES})
  target_include_directories(sabrewing_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(sabrewing_${name} PUBLIC ${arg_DEPENDS} PRIVATE sabrewing_warnings ${arg_PRIVATE_DEPENDS})
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

# sabrewing_fuzzer(NAME SOURCES ... DEPENDS ...): a libFuzzer target, built only with SABREWING_BUILD_FUZZERS.
function(sabrewing_fuzzer name)
  if(NOT SABREWING_BUILD_FUZZERS)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_DEPENDS} sabrewing_warnings -fsanitize=fuzzer)
endfunction()
