"""A proxy that passes requests on unchanged and records them, to know what a client really sent."""

import gzip
import json
import threading
import zlib
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

import otlp

HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "host", "date", "server"}


@dataclass
class Exchange:
    """One recorded request and the status and body that it was answered with."""

    path: str
    headers: dict
    body: bytes
    status: int
    answer: bytes

    def message(self):
        """The request as a protobuf message, decoded by its own headers."""
        encoding = self.headers.get("content-encoding", "")
        body = {"gzip": gzip.decompress, "deflate": zlib.decompress, "": bytes}[encoding](self.body)
        if self.headers["content-type"].startswith("application/json"):
            return otlp.from_json(otlp.ExportTraceServiceRequest(), _with_text_integers(json.loads(body)))
        return otlp.ExportTraceServiceRequest.FromString(body)


def _with_text_integers(value, key=""):
    """OTLP JSON with 64-bit integers as text: senders may write them as numbers."""
    if isinstance(value, dict):
        return {k: _with_text_integers(v, k) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_with_text_integers(v, key) for v in value]
    if key in ("intValue", "startTimeUnixNano", "endTimeUnixNano", "timeUnixNano") and isinstance(value, int):
        return str(value)
    return value


class Relay:
    """Listens on a free loopback port in front of `upstream`. A context manager."""

    def __init__(self, upstream):
        self.exchanges = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self._body()
                headers = {k.lower(): v for k, v in self.headers.items()}
                passed_on = {k: v for k, v in headers.items() if k not in HOP_BY_HOP}
                answer = requests.post(upstream + self.path, data=body, headers=passed_on, timeout=60)
                relay.exchanges.append(Exchange(self.path, headers, body, answer.status_code, answer.content))
                self.send_response_only(answer.status_code)
                for key, value in answer.headers.items():
                    if key.lower() not in HOP_BY_HOP | {"content-encoding"}:
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def _body(self):
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *_):
                pass

        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.listener.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.listener.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown()
        self.listener.server_close()

    def sent(self):
        """Spans of all recorded requests by id; all of them must have been answered with 200 and no rejection."""
        assert self.exchanges, "the client sent nothing"
        for exchange in self.exchanges:
            assert exchange.status == 200, f"{exchange.status} {exchange.answer!r}"
            assert exchange.answer in (b"", b"{}", b'{"partialSuccess":{}}'), exchange.answer
        return otlp.records(*(exchange.message() for exchange in self.exchanges))
