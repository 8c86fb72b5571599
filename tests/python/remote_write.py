"""Prometheus remote write 1.0, encoded by hand from its specification: protobuf in a Snappy block."""

import struct

import requests

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def varint(number):
    out = bytearray()
    number &= (1 << 64) - 1
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def double(number, value):
    """A double field; the stale marker keeps its bits."""
    return varint(number << 3 | 1) + struct.pack("<d", value)


def label(name, value):
    return field(1, field(1, name.encode()) + field(2, value.encode()))


def sample(value, time_ms):
    return field(2, double(1, value) + varint(2 << 3) + varint(time_ms))


def request(series):
    """The message: of each series its labels as a dict and its samples as pairs of ms and value."""
    out = b""
    for labels, samples in series:
        body = b"".join(label(name, labels[name]) for name in sorted(labels))
        body += b"".join(sample(value, time_ms) for time_ms, value in samples)
        out += field(1, body)
    return out


def metadata(family, kind, text, unit=""):
    """A statement about a family; kinds as remote write numbers them: 1 counter, 2 gauge, 3 histogram."""
    message = varint(1 << 3) + varint(kind) + field(2, family.encode()) + field(4, text.encode()) + field(5, unit.encode())
    return field(3, message)


def snappy(plain):
    """A Snappy block of nothing but literals: valid, if not small."""
    out = bytearray(varint(len(plain)))
    for start in range(0, len(plain), 1 << 16):
        part = plain[start : start + (1 << 16)]
        out += bytes([61 << 2]) + struct.pack("<H", len(part) - 1) + part
    return bytes(out)


HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


def post(base, body, **headers):
    """Sends a message to `base`/api/v1/write and returns the response."""
    return requests.post(f"{base}/api/v1/write", data=snappy(body), headers={**HEADERS, **headers}, timeout=30)
