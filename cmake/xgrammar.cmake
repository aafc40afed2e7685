# The C++ core of xgrammar as the static library sabrewing_xgrammar. As a script (cmake -DSABREWING_SOURCES=FOLDER -P) this
# only fetches the archive.
include("${CMAKE_CURRENT_LIST_DIR}/pypi.cmake")
sabrewing_pypi_archive(xgrammar 0.2.8 8305646fd2b319d6c3003f51a1665e54cbbe9cba1fb636bc41d0b46434ccbb80 archive)
if(CMAKE_SCRIPT_MODE_FILE)
  return()
endif()

set(folder "${CMAKE_BINARY_DIR}/third_party/xgrammar-0.2.8")
if(NOT EXISTS "${folder}/.unpacked")
  file(ARCHIVE_EXTRACT INPUT "${archive}" DESTINATION "${CMAKE_BINARY_DIR}/third_party"
    PATTERNS "*/cpp/*" "*/include/*" "*/3rdparty/picojson/*" "*/LICENSE")
  file(TOUCH "${folder}/.unpacked")
endif()

# Own target instead of theirs, which sets -Werror and link-time optimisation and reads cmake/config.cmake.
file(GLOB sources "${folder}/cpp/*.cc" "${folder}/cpp/support/*.cc" "${folder}/cpp/converter_ext/*.cc")
add_library(sabrewing_xgrammar STATIC ${sources})
target_include_directories(sabrewing_xgrammar SYSTEM
  PUBLIC "${folder}/include" "${folder}/3rdparty/dlpack/include"
  PRIVATE "${folder}/3rdparty/picojson")
# text/grammar_xgrammar.cpp takes xgrammar's messages: the library itself prints nothing.
target_compile_definitions(sabrewing_xgrammar PRIVATE
  XGRAMMAR_LOG_CUSTOMIZE=1 XGRAMMAR_ENABLE_CPPTRACE=0 XGRAMMAR_ENABLE_INTERNAL_CHECK=0)
if(SABREWING_SANITIZE MATCHES "undefined")
  target_compile_options(sabrewing_xgrammar PRIVATE -fno-sanitize=undefined)
endif()
set_target_properties(sabrewing_xgrammar PROPERTIES CXX_STANDARD 17)
