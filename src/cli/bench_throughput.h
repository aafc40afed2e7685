#pragma once

#include "cli/command.h"

namespace sabrewing::cli {

/// `bench throughput` below `bench`.
void add_bench_throughput(CLI::App& bench, Action& action);

}  // namespace sabrewing::cli
