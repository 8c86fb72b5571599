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


def zigzag(number):
    return varint(number << 1 ^ number >> 63)


class Histogram:
    """A native histogram: counts of consecutive buckets from an index on, or of buckets with custom bounds."""

    def __init__(self, schema, offset, counts, total, zero=0, bounds=()):
        self.schema, self.offset, self.counts, self.total, self.zero, self.bounds = schema, offset, counts, total, zero, bounds

    def field(self, time_ms):
        count = sum(self.counts) + self.zero
        deltas = b"".join(zigzag(b - a) for a, b in zip([0, *self.counts], self.counts))
        message = varint(1 << 3) + varint(count) + double(3, self.total) + varint(4 << 3) + zigzag(self.schema)
        if self.schema != -53:
            message += double(5, 1e-128)
        message += varint(6 << 3) + varint(self.zero)
        message += field(11, varint(1 << 3) + zigzag(self.offset) + varint(2 << 3) + varint(len(self.counts)))
        message += field(12, deltas) + varint(15 << 3) + varint(time_ms)
        message += field(16, struct.pack(f"<{len(self.bounds)}d", *self.bounds)) if self.bounds else b""
        return field(4, message)


class Exemplar:
    """An exemplar: its labels as a dict, and its value."""

    def __init__(self, labels, value):
        self.labels, self.value = labels, value

    def field(self, time_ms):
        names = b"".join(label(name, value) for name, value in sorted(self.labels.items()))
        return field(3, names + double(2, self.value) + varint(3 << 3) + varint(time_ms))


def request(series):
    """The message: of each series its labels as a dict and its samples as pairs of ms and a number, a histogram or an exemplar."""
    out = b""
    for labels, samples in series:
        body = b"".join(label(name, labels[name]) for name in sorted(labels))
        for time_ms, value in samples:
            body += value.field(time_ms) if isinstance(value, (Histogram, Exemplar)) else sample(value, time_ms)
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
