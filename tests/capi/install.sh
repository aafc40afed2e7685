#!/usr/bin/env bash
# install.sh CMAKE BUILD EXAMPLE: installs into a temporary folder, moves it, and builds the example against it with
# CMake's package and, where there is one, pkg-config.
set -euo pipefail
cmake=$1 build=$2 example=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --prefix "$work/first" >"$work/log"
mv "$work/first" "$work/prefix"
"$work/prefix/bin/sabrewing" --version
mkdir "$work/project"
cp "$example" "$work/project/gemm.c"
cat >"$work/project/CMakeLists.txt" <<'TEXT'
cmake_minimum_required(VERSION 3.25)
project(example LANGUAGES C)
find_package(Sabrewing 0.1 REQUIRED)
add_executable(gemm gemm.c)
target_link_libraries(gemm PRIVATE sabrewing::sabrewing)
TEXT
"$cmake" -G Ninja -S "$work/project" -B "$work/out" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/log" || { cat "$work/log"; exit 1; }
"$cmake" --build "$work/out" >"$work/log" || { cat "$work/log"; exit 1; }
"$work/out/gemm"
if command -v pkg-config >/dev/null; then
  pc=$(dirname "$(find "$work/prefix" -name sabrewing.pc)")
  # shellcheck disable=SC2046  # a list of flags
  cc "$example" $(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs sabrewing) -o "$work/gemm"
  LD_LIBRARY_PATH=$(PKG_CONFIG_PATH=$pc pkg-config --variable=libdir sabrewing) "$work/gemm"
fi
