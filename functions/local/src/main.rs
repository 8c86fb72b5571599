//! The binary `spandrel`.

use std::process::ExitCode;

use clap::Parser as _;

/// Files are decoded on one thread and joined on another: glibc's allocator would have them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    local::run(local::Cli::parse())
}
