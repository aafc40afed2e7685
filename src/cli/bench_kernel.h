#pragma once

#include "cli/command.h"

namespace sabrewing::cli {

/// `bench kernel` below `bench`.
void add_bench_kernel(CLI::App& bench, Action& action);

}  // namespace sabrewing::cli
