add_library(sabrewing_warnings INTERFACE)
target_compile_options(sabrewing_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror)
