add_library(sabrewing_warnings INTERFACE)
target_compile_options(sabrewing_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror)
# Clang reports libstdc++'s own use of what it deprecates (std::stable_sort) as ours.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(sabrewing_warnings INTERFACE -Wno-deprecated-declarations)
endif()
# GCC 12 and 13 see overlapping copies in std::string's own operator+ (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  target_compile_options(sabrewing_warnings INTERFACE -Wno-restrict)
endif()
