//! The binary `spandrel`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    local::run(local::Cli::parse())
}
