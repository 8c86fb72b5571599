//! Every role in one process: the binary `spandrel`.
//!
//! - [`serve`]: the server. Stores → roles' routers → listeners; a clean stop.
//! - [`inspect`]: what is stored. [`compact`]: merging, once or by a ticker.
//!   [`sampling`]: what a policy would drop. [`erase`]: what has to go.
//!   [`repair`]: what crashes left behind. [`cost`]: what it costs.
//! - [`export`], [`tables`]: for other engines.
//! - [`mod@bench`], [`traffic`], [`demo`]: made-up telemetry, to measure with and to look at.

pub mod bench;
pub mod compact;
pub mod cost;
pub mod demo;
pub mod erase;
pub mod export;
pub mod inspect;
pub mod repair;
pub mod sampling;
pub mod serve;
mod stores;
mod table;
pub mod tables;
pub mod traffic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Observability backend: traces over OTLP and metrics over remote write in, Jaeger's and Prometheus' APIs out, stored
/// as Parquet.
///
/// Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "spandrel", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive, store and answer (the default)
    Serve(Box<serve::Args>),
    /// Show what is stored, by tenant, hour and level
    Inspect(inspect::Args),
    /// Merge small files into large ones, once (a server does it all the time)
    Compact(compact::Args),
    /// Ask for telemetry to be erased by trace, attribute or service, or list what was asked for
    Erase(erase::Args),
    /// Say what a sampling policy would drop and save
    Sampling(sampling::Args),
    /// Show what crashes left behind, and remove it when told
    Repair(repair::Args),
    /// Write samples as plain Parquet, a row each, for other engines
    Export(export::Args),
    /// Print definitions of tables over the stored files, for Glue and Athena
    Tables(tables::Args),
    /// Price what is stored, a planned load or a day of requests
    Cost(cost::Args),
    /// Measure this program on this machine
    Bench(bench::Args),
}

/// Runs a command line to its end.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(args) => exit_code(serve::run(*args)),
        Command::Inspect(args) => exit_code(inspect::run(&args)),
        Command::Compact(args) => exit_code(compact::run(&args)),
        Command::Erase(args) => exit_code(erase::run(&args)),
        Command::Sampling(args) => exit_code(sampling::run(&args)),
        Command::Repair(args) => exit_code(repair::run(&args)),
        Command::Export(args) => exit_code(export::run(&args)),
        Command::Tables(args) => exit_code(tables::run(&args)),
        Command::Cost(args) => exit_code(cost::run(&args)),
        Command::Bench(args) => bench::run(args),
    }
}

#[expect(clippy::print_stderr, reason = "an error of a command line belongs there")]
fn exit_code(outcome: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        eprintln!("  because: {error}");
        source = error.source();
    }
    ExitCode::FAILURE
}
