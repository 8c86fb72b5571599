//! `spandrel bench`: what the product costs, measured from outside or stage by stage.
//!
//! Each command prints a table; with `--json` the table goes to standard error and one line of JSON to standard output.
//! The traffic is that of [`crate::traffic`]: a seed stands for all of it, so nothing has to be stored between
//! `bench load` and `bench query`. Only loopback is loaded or queried: this is no tool against anybody's server.
//!
//! - `encode`: bytes of a request to bytes of a file, on one core, in memory.
//! - `load`: requests over a few connections into a running server.
//! - `query`: the Jaeger API of a server that was loaded.
//! - `promql`: range queries on any server with Prometheus' API.
//! - `start`: a Lambda bootstrap against a stub of the Runtime API.

mod encode;
mod load;
mod proc;
mod promql;
mod query;
mod report;
mod start;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Subcommand;

/// Arguments of `spandrel bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print one line of JSON to standard output, and the table to standard error
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Decompress, decode and encode trace requests on one core, in memory
    Encode(encode::Args),
    /// Send trace requests to a server on loopback
    Load(load::Args),
    /// Query the Jaeger API of a server on loopback that `bench load` has filled
    Query(query::Args),
    /// Ask range queries of a server on loopback that `bench load --signal metrics` has filled
    Promql(promql::Args),
    /// Start a Lambda bootstrap against a stub of the Runtime API
    Start(start::Args),
}

/// Runs the command and prints what it measured. Starts its own runtime, so it must not be called from within one.
pub fn run(args: Args) -> ExitCode {
    let report = match args.command {
        Command::Encode(args) => encode::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Promql(args) => promql::run(&args),
        Command::Start(args) => start::run(&args),
    };
    match report.and_then(|report| report.print(args.json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            report::complain(&err);
            ExitCode::FAILURE
        }
    }
}

/// Why there is no result.
#[derive(Debug)]
enum Error {
    /// A file, a process or a socket.
    Io { what: &'static str, source: std::io::Error },
    /// The server did not answer.
    NoAnswer(crate::traffic::client::NoAnswer),
    /// The server answered something else.
    Answer { what: String, status: u16, body: String },
    /// A request of our own was not decoded.
    Decode(wire::Error),
    /// A bootstrap did not reach its first poll.
    NotStarted(String),
    /// There is nothing to measure.
    Nothing(&'static str),
}

type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, source } => write!(f, "{what}: {source}"),
            Self::NoAnswer(source) => source.fmt(f),
            Self::Answer { what, status, body } => write!(f, "{what}: status {status}, {body}"),
            Self::Decode(source) => write!(f, "generated request: {source}"),
            Self::NotStarted(how) => write!(f, "bootstrap did not poll for its first event: {how}"),
            Self::Nothing(what) => write!(f, "nothing to measure: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// `http://` and a loopback address.
#[derive(Debug, Clone, Copy)]
struct Loopback(SocketAddr);

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let rest = text.strip_prefix("http://").ok_or("http://ADDRESS:PORT expected")?;
        let authority = rest.trim_end_matches('/');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("invalid port {port:?}"))?)
            }
            _ => (authority, 80),
        };
        let ip = match host.trim_matches(['[', ']']) {
            "localhost" => IpAddr::from([127, 0, 0, 1]),
            address => address.parse().map_err(|_| format!("invalid address {address:?}"))?,
        };
        if !ip.is_loopback() {
            return Err(format!("{ip} is not a loopback address; benchmarks stay on this machine"));
        }
        Ok(Self(SocketAddr::new(ip, port)))
    }
}

/// A runtime of this one thread: the client must not take the server's core.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::io("runtime"))
}

/// The `share` quantile of `sorted` by nearest rank; 0 of nothing.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn only_loopback_is_loaded() {
        let check = |text: &str, expect: Option<&str>| {
            let address = text.parse::<Loopback>().ok().map(|Loopback(address)| address.to_string());
            assert_eq!(address.as_deref(), expect, "{text}");
        };
        check("http://127.0.0.1:4318", Some("127.0.0.1:4318"));
        check("http://127.0.0.1:4318/", Some("127.0.0.1:4318"));
        check("http://localhost:80", Some("127.0.0.1:80"));
        check("http://127.1.2.3", Some("127.1.2.3:80"));
        check("http://[::1]:4318", Some("[::1]:4318"));
        check("http://[::1]", Some("[::1]:80"));
        check("http://10.0.0.1:4318", None);
        check("http://0.0.0.0:4318", None);
        check("http://example.com:4318", None);
        check("http://127.0.0.1.example.com", None);
        check("https://127.0.0.1:4318", None);
        check("127.0.0.1:4318", None);
    }

    #[test]
    fn commands_have_defaults() {
        for line in ["encode", "load", "query", "start --bootstrap target/bootstrap", "encode --json"] {
            let arguments = ["spandrel"].into_iter().chain(line.split(' '));
            Cli::try_parse_from(arguments).expect(line);
        }
        Cli::try_parse_from(["spandrel", "load", "--endpoint", "http://192.0.2.1:4318"])
            .expect_err("not loopback");
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let check = |sorted: &[f64], share: f64, expect: &str| {
            assert_eq!(quantile(sorted, share).to_string(), expect, "{share} of {}", sorted.len());
        };
        check(&hundred, 0.5, "50");
        check(&hundred, 0.99, "99");
        check(&hundred, 1.0, "100");
        check(&[7.0], 0.0, "7");
        check(&[], 0.5, "0");
    }
}
