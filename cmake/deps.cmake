# Third-party code comes from distribution packages (CONTRIBUTING.md lists them) and is linked
# statically or used header-only, so that the binary needs nothing but the C and C++ runtimes.
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(CLI11 2 REQUIRED)

# Beast and Asio, header-only.
find_package(Boost 1.81 REQUIRED)

find_path(PCRE2_INCLUDE_DIR pcre2.h REQUIRED)
find_library(PCRE2_LIBRARY NAMES libpcre2-8.a REQUIRED)
find_path(UTF8PROC_INCLUDE_DIR utf8proc.h REQUIRED)
find_library(UTF8PROC_LIBRARY NAMES libutf8proc.a REQUIRED)

add_library(sabrewing_pcre2 INTERFACE)
target_include_directories(sabrewing_pcre2 SYSTEM INTERFACE ${PCRE2_INCLUDE_DIR})
target_compile_definitions(sabrewing_pcre2 INTERFACE PCRE2_STATIC PCRE2_CODE_UNIT_WIDTH=8)
target_link_libraries(sabrewing_pcre2 INTERFACE ${PCRE2_LIBRARY})

add_library(sabrewing_utf8proc INTERFACE)
target_include_directories(sabrewing_utf8proc SYSTEM INTERFACE ${UTF8PROC_INCLUDE_DIR})
target_compile_definitions(sabrewing_utf8proc INTERFACE UTF8PROC_STATIC)
target_link_libraries(sabrewing_utf8proc INTERFACE ${UTF8PROC_LIBRARY})

# fmt's headers with its few non-template functions compiled once: quicker than header-only in every
# source file, and static where the distribution has only a shared library.
get_target_property(SABREWING_FMT_INCLUDE fmt::fmt-header-only INTERFACE_INCLUDE_DIRECTORIES)
add_library(sabrewing_fmt STATIC ${CMAKE_CURRENT_SOURCE_DIR}/src/core/third_party_fmt.cpp)
target_include_directories(sabrewing_fmt SYSTEM PUBLIC ${SABREWING_FMT_INCLUDE})

if(SABREWING_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
