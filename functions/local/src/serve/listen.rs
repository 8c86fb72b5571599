//! Sockets: bound first, opened once there is something behind them, closed cleanly.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use edge::guard::Door;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long a connection may be silent between requests or within the head of one.
const IDLE_LIMIT: Duration = Duration::from_mins(5);

/// Listeners and the connections that came through them.
#[derive(Default)]
pub(crate) struct Server {
    bound: Vec<(&'static str, TcpListener)>,
    accepting: JoinSet<()>,
    connections: Arc<GracefulShutdown>,
}

/// Why a port is not open.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {flag}; {advice}")]
pub(crate) struct BindError {
    address: String,
    flag: &'static str,
    advice: String,
    #[source]
    source: io::Error,
}

impl Server {
    /// Takes a port; `:0` takes any that is free. Nothing is accepted yet.
    pub(crate) async fn bind(
        &mut self,
        name: &'static str,
        flag: &'static str,
        address: &str,
    ) -> Result<SocketAddr, BindError> {
        let failed = |source: io::Error| {
            let advice = match source.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("another program has this port: choose another with {flag}")
                }
                io::ErrorKind::InvalidInput => format!("{flag} takes host:port"),
                _ => format!("choose another address with {flag}"),
            };
            BindError { address: address.to_owned(), flag, advice, source }
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.bound.push((name, listener));
        Ok(bound)
    }

    /// Answers what comes through the port bound as `name`, if one was, by `door`.
    pub(crate) fn open(&mut self, name: &str, door: &Door) {
        for (_, listener) in self.bound.extract_if(.., |(other, _)| *other == name) {
            self.accepting.spawn(accept(listener, door.clone(), Arc::clone(&self.connections)));
        }
    }

    /// Closes the ports and waits for requests in flight, at most `limit`. Whether all of them finished.
    pub(crate) async fn stop(self, limit: Duration) -> bool {
        let Self { bound, mut accepting, connections } = self;
        drop(bound);
        accepting.shutdown().await;
        // The tasks that accepted are gone, and their shares with them.
        let Some(connections) = Arc::into_inner(connections) else { return false };
        tokio::time::timeout(limit, connections.shutdown()).await.is_ok()
    }
}

async fn accept(listener: TcpListener, door: Door, connections: Arc<GracefulShutdown>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => serve(stream, door.clone(), connections.watcher()),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // No descriptors left, most likely: connections that end will free some.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// HTTP/1.1 and HTTP/2 without TLS, told apart by the first bytes.
fn serve(stream: TcpStream, door: Door, watcher: Watcher) {
    // Answers are small and complete: waiting for more of them only adds delay.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let door = door.clone();
        async move { Ok::<_, std::convert::Infallible>(door.answer(request.map(Body::new), None).await) }
    });
    tokio::spawn(async move {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_LIMIT);
        builder.http2().timer(TokioTimer::new());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended");
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::routing::{get, post};
    use edge::guard::plain_failure;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::*;

    async fn started(router: Router) -> (Server, SocketAddr) {
        let mut server = Server::default();
        let address = server.bind("http", "--http", "127.0.0.1:0").await.expect("a free port");
        server.open("http", &Door::new(router, plain_failure));
        (server, address)
    }

    /// Sends bytes and reads until the server closes or `until` was read.
    async fn exchange(stream: &mut TcpStream, request: &str, until: &str) -> String {
        stream.write_all(request.as_bytes()).await.expect("sent");
        read_until(stream, until).await
    }

    async fn read_until(stream: &mut TcpStream, until: &str) -> String {
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        while !text.contains(until) {
            let n_bytes = stream.read(&mut buffer).await.expect("an answer");
            if n_bytes == 0 {
                break;
            }
            text.push_str(&String::from_utf8_lossy(&buffer[..n_bytes]));
        }
        text
    }

    #[tokio::test]
    async fn one_connection_serves_many_requests() {
        let (server, address) = started(Router::new().route("/a", get(|| async { "aaa" }))).await;
        let mut stream = TcpStream::connect(address).await.expect("connected");
        for _ in 0..3 {
            let answer = exchange(&mut stream, "GET //a HTTP/1.1\r\nhost: x\r\n\r\n", "aaa").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\naaa"), "{answer}");
        }
        let answer = exchange(&mut stream, "nonsense\r\n\r\n", "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(server.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_the_flag() {
        let mut server = Server::default();
        let taken = server.bind("http", "--http", "127.0.0.1:0").await.expect("a free port").to_string();
        let error = server.bind("jaeger", "--listen.jaeger", &taken).await.expect_err("taken").to_string();
        assert!(
            error.contains(&taken) && error.contains("--listen.jaeger") && error.contains("another program"),
            "{error}"
        );
        let error = server.bind("jaeger", "--listen.jaeger", "16686").await.expect_err("no host").to_string();
        assert!(error.contains("takes host:port"), "{error}");
    }

    #[tokio::test]
    async fn a_stop_waits_for_requests_in_flight_and_closes_idle_connections() {
        let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (arrived, go_on) = (Arc::clone(&arrived), Arc::clone(&go_on));
            post(move |body: String| async move {
                arrived.notify_one();
                go_on.notified().await;
                body
            })
        };
        let (server, address) = started(Router::new().route("/a", handler)).await;
        let mut idle = TcpStream::connect(address).await.expect("connected");
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody";
        stream.write_all(request.as_bytes()).await.expect("sent");
        arrived.notified().await;
        let stopping = tokio::spawn(server.stop(Duration::from_secs(30)));
        assert_eq!(read_until(&mut idle, "never sent").await, "");
        go_on.notify_one();
        assert!(read_until(&mut stream, "body").await.ends_with("\r\n\r\nbody"));
        assert!(stopping.await.expect("no panic"), "all requests finished");
        assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_ever() {
        let handler = get(|| async { std::future::pending::<&str>().await });
        let (server, address) = started(Router::new().route("/a", handler)).await;
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        // The request is read before time goes on: a paused clock only moves when nothing else can.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!server.stop(Duration::from_secs(10)).await);
    }
}
