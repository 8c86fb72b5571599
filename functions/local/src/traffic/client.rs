//! A connection to one HTTP server, kept alive between requests. It sends a request once; who wants more asks again.

use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Why there was no answer. The request may or may not have arrived.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// Nobody listens, or the connection broke while it was opened.
    Connect(std::io::Error),
    /// The connection broke, or what came was not HTTP.
    Http(hyper::Error),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(err) => write!(f, "cannot connect: {err}"),
            Self::Http(err) => write!(f, "no answer: {err}"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// Status and body of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// A connection that is opened when it is needed.
#[derive(Debug)]
pub(crate) struct Client {
    server: SocketAddr,
    host: String,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client of the server at `server`; nothing is sent yet.
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self { server, host: server.to_string(), open: None }
    }

    /// Posts a gzip body of OTLP protobuf to `path`.
    pub(crate) async fn post_traces(&mut self, path: &str, gzip: Bytes) -> Result<Answer, NoAnswer> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONTENT_ENCODING, "gzip");
        self.send(request, gzip).await
    }

    /// Posts a snappy body of remote write 1.0 to `path`.
    pub(crate) async fn post_samples(&mut self, path: &str, snappy: Bytes) -> Result<Answer, NoAnswer> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONTENT_ENCODING, "snappy")
            .header("x-prometheus-remote-write-version", "0.1.0");
        self.send(request, snappy).await
    }

    /// Gets `path`, which may have a query.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, NoAnswer> {
        self.send(Request::get(path), Bytes::new()).await
    }

    async fn send(&mut self, request: http::request::Builder, body: Bytes) -> Result<Answer, NoAnswer> {
        let request = request.header(header::HOST, &self.host).body(Full::new(body));
        let request = request.expect("invariant: method, path and headers are valid");
        // A connection that breaks is dropped with the error.
        let mut sender = self.connected().await?;
        let response = sender.send_request(request).await.map_err(NoAnswer::Http)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(NoAnswer::Http)?.to_bytes();
        self.open = Some(sender);
        Ok(Answer { status, body })
    }

    /// The open connection, or a new one if the server has closed it.
    async fn connected(&mut self) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
        if let Some(mut sender) = self.open.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let stream = TcpStream::connect(self.server).await.map_err(NoAnswer::Connect)?;
        stream.set_nodelay(true).map_err(NoAnswer::Connect)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(NoAnswer::Http)?;
        // Its errors reach the sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// `body` as a gzip member.
pub(crate) fn gzip(body: &[u8], level: u32) -> Bytes {
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::new(level));
    encoder.write_all(body).expect("invariant: writing to a vector succeeds");
    encoder.finish().expect("invariant: writing to a vector succeeds").into()
}

/// `body` as a block of snappy.
pub(crate) fn snappy(body: &[u8]) -> Bytes {
    snap::raw::Encoder::new().compress_vec(body).expect("invariant: a request is smaller than 4 GiB").into()
}
