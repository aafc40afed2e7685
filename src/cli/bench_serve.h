#pragma once

#include "cli/command.h"

namespace sabrewing::cli {

/// `bench serve` below `bench`.
void add_bench_serve(CLI::App& bench, Action& action);

}  // namespace sabrewing::cli
