//! `bench start`: a cold start without the cloud.
//!
//! A bootstrap of a Lambda function is started with the environment that Lambda gives it, and finds a stub of the
//! Runtime API on loopback. Its start is over when it asks for the first event; it never gets one.
//! Source: AWS Lambda developer guide, "Using the Lambda runtime API", 2018-06-01.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::report::{Report, number, number_or_dash, row};
use super::{Error, Result, proc, quantile};

const NEXT: &str = "GET /2018-06-01/runtime/invocation/next ";
const PATIENCE: Duration = Duration::from_secs(15);
/// Long enough for threads that the start has left behind to come to rest.
const IDLE: Duration = Duration::from_millis(200);
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Arguments of `bench start`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The function's bootstrap
    #[arg(long)]
    bootstrap: PathBuf,
    /// How often it is started
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// A variable of its environment, as NAME=VALUE; may be given several times
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,
}

fn variable(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("NAME=VALUE expected")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Starts it again and again and reports.
pub(super) fn run(args: &Args) -> Result<Report> {
    let runtime = super::runtime()?;
    let mut starts = Vec::new();
    for _ in 0..args.runs {
        starts.push(runtime.block_on(start_once(args))?);
    }
    let sorted = |measured: fn(&Start) -> Option<f64>| {
        let mut values: Vec<f64> = starts.iter().filter_map(measured).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let first_poll_ms = sorted(|start| Some(start.first_poll_ms));
    let cpu_ms = sorted(|start| start.cpu_ms);
    let idle_bytes = sorted(|start| start.idle_bytes);
    let median = |values: &[f64]| (!values.is_empty()).then(|| quantile(values, 0.5));
    let idle_mb = median(&idle_bytes).map(|bytes| bytes / 1e6);
    let size_bytes = std::fs::metadata(&args.bootstrap).map_err(Error::io("bootstrap"))?.len();
    let [p50_ms, p99_ms] = [0.5, 0.99].map(|share| quantile(&first_poll_ms, share));
    let rows = vec![
        row(["cold start", ""]),
        row(["runs", &number(f64::from(args.runs), 0)]),
        row(["process start to first poll, p50 ms", &number(p50_ms, 2)]),
        row(["process start to first poll, p99 ms", &number(p99_ms, 2)]),
        row(["CPU ms until idle, p50", &number_or_dash(median(&cpu_ms), 2)]),
        row(["idle memory MB, p50", &number_or_dash(idle_mb, 1)]),
        row(["bootstrap MB", &number(size_bytes as f64 / 1e6, 1)]),
    ];
    let json = json!({
        "bench": "start",
        "runs": args.runs,
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "cpu_ms": median(&cpu_ms),
        "idle_bytes": median(&idle_bytes),
        "bootstrap_bytes": size_bytes,
    });
    Ok(Report { rows, json })
}

struct Start {
    first_poll_ms: f64,
    cpu_ms: Option<f64>,
    idle_bytes: Option<f64>,
}

/// Ends the process with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Either fails only when the process has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start_once(args: &Args) -> Result<Start> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(Error::io("stub of the runtime api"))?;
    let address = listener.local_addr().map_err(Error::io("stub of the runtime api"))?;
    let start = Instant::now();
    let mut running = Running(spawn(&args.bootstrap, &address.to_string(), &args.variables)?);
    let pid = running.0.id();
    let connection = tokio::select! {
        polled = first_poll(&listener) => polled?,
        how = given_up(&mut running.0) => return Err(Error::NotStarted(how)),
    };
    let first_poll_ms = start.elapsed().as_secs_f64() * 1e3;
    tokio::time::sleep(IDLE).await;
    let cpu_ms = proc::threads_cpu_s(pid).map(|cpu_s| cpu_s * 1e3);
    let idle_bytes = proc::memory_bytes(pid, "VmRSS").map(|bytes| bytes as f64);
    drop(running);
    drop(connection);
    Ok(Start { first_poll_ms, cpu_ms, idle_bytes })
}

/// Waits until the process has ended or patience has, and says which.
async fn given_up(child: &mut Child) -> String {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        tokio::time::sleep(IDLE).await;
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return format!("it ended, {status}"),
            Err(err) => return err.to_string(),
        }
    }
    format!("nothing within {PATIENCE:?}")
}

fn spawn(bootstrap: &Path, runtime_api: &str, variables: &[(String, String)]) -> Result<Child> {
    Command::new(bootstrap)
        .env_clear()
        .envs([
            ("AWS_LAMBDA_RUNTIME_API", runtime_api),
            ("AWS_LAMBDA_FUNCTION_NAME", "spandrel-bench"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/spandrel-bench"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "bench"),
            ("AWS_SECRET_ACCESS_KEY", "bench"),
            ("AWS_SESSION_TOKEN", "bench"),
            ("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023"),
            ("LAMBDA_TASK_ROOT", "/var/task"),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("_HANDLER", "bootstrap"),
            ("TZ", ":UTC"),
        ])
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::io("bootstrap"))
}

/// The connection on which the first event was asked for. Other calls before it are answered with 202.
async fn first_poll(listener: &TcpListener) -> Result<TcpStream> {
    loop {
        let (mut stream, _) = listener.accept().await.map_err(Error::io("stub of the runtime api"))?;
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MAX_HEAD_BYTES {
            if stream.read_buf(&mut head).await.map_err(Error::io("stub of the runtime api"))? == 0 {
                break;
            }
        }
        let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        if line.starts_with(NEXT) {
            return Ok(stream);
        }
        if line.contains("/runtime/init/error") {
            return Err(Error::NotStarted(format!("{line}: {}", String::from_utf8_lossy(&head))));
        }
        let accepted = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(accepted).await.map_err(Error::io("stub of the runtime api"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_a_name_and_a_value() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(variable("A").is_err() && variable("=b").is_err());
    }

    #[tokio::test]
    async fn the_stub_waits_for_the_first_poll() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let client = async {
            for line in ["POST /2018-06-01/runtime/restore/next", "GET /2018-06-01/runtime/invocation/next"] {
                let mut stream = TcpStream::connect(address).await.expect("listening");
                stream
                    .write_all(format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
                    .await
                    .expect("open");
                let mut answer = Vec::new();
                if line.starts_with("POST") {
                    stream.read_to_end(&mut answer).await.expect("an answer");
                    assert!(answer.starts_with(b"HTTP/1.1 202"));
                }
            }
        };
        let (polled, ()) = tokio::join!(first_poll(&listener), client);
        polled.expect("polled");
    }
}
