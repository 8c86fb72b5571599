"""OTLP as plain values: protobuf messages to the specification's JSON form and back, and spans as flat records.

Written from the specification's rules ("JSON Protobuf Encoding"), not with `google.protobuf.json_format`,
which writes ids as base64 and enums as names. The tests compare what was sent with what was read back
field by field through `records` and `assert_same`.
"""

import base64
import gzip
import json
import os
import random
import time

from google.protobuf.descriptor import FieldDescriptor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["ExportTraceServiceRequest", "ExportTraceServiceResponse"]

HEX_IDS = {"trace_id", "span_id", "parent_span_id"}
INTS_64 = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_SINT64,
}
DOUBLES = {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}


def to_json(message):
    """OTLP JSON of a protobuf message as Python values. Fields that hold their default are left out.

    Two spellings of one meaning become one: an attribute without a value has an empty value, and an empty
    status is no status.
    """
    result = {
        field.json_name: [_value(field, item) for item in value] if field.is_repeated else _value(field, value)
        for field, value in message.ListFields()
    }
    if isinstance(message, KeyValue):
        result.setdefault("value", {})
    if isinstance(message, Span) and result.get("status") == {}:
        del result["status"]
    return result


def _value(field, value):
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return to_json(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return value.hex() if field.name in HEX_IDS else base64.b64encode(value).decode()
    if field.type in INTS_64:
        return str(value)
    if field.type in DOUBLES:
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
    return value


def from_json(message, value, path="$"):
    """Fills `message` from OTLP JSON and returns it.

    Strict where the specification is: an unknown or snake_case key, a numeric 64-bit integer in place of a
    string, an enum's name or a non-hex id is an assertion error, since what is read here was written by us.
    """
    assert isinstance(value, dict), f"{path}: expected an object, got {value!r}"
    fields = {field.json_name: field for field in message.DESCRIPTOR.fields}
    for key, item in value.items():
        assert key in fields, f"{path}.{key}: no such field in {message.DESCRIPTOR.name}"
        field, where = fields[key], f"{path}.{key}"
        if field.is_repeated:
            assert isinstance(item, list), f"{where}: expected a list, got {item!r}"
            for i, element in enumerate(item):
                if field.type == FieldDescriptor.TYPE_MESSAGE:
                    from_json(getattr(message, field.name).add(), element, f"{where}[{i}]")
                else:
                    getattr(message, field.name).append(_scalar(field, element, f"{where}[{i}]"))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name).SetInParent()
            from_json(getattr(message, field.name), item, where)
        else:
            setattr(message, field.name, _scalar(field, item, where))
    return message


def _scalar(field, value, where):
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes.fromhex(value) if field.name in HEX_IDS else base64.b64decode(value, validate=True)
    if field.type in INTS_64:
        assert isinstance(value, str), f"{where}: a 64-bit integer must be a string, got {value!r}"
        return int(value)
    if field.type in DOUBLES:
        assert not isinstance(value, str) or value in ("NaN", "Infinity", "-Infinity"), f"{where}: {value!r}"
        return float(value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        assert isinstance(value, bool), f"{where}: expected a bool, got {value!r}"
    elif field.type != FieldDescriptor.TYPE_STRING:
        assert isinstance(value, int) and not isinstance(value, bool), f"{where}: expected an int, got {value!r}"
    return value


def json_text(message):
    """OTLP JSON text of a message, or of OTLP JSON values."""
    return json.dumps(message if isinstance(message, dict) else to_json(message)).encode()


def records(*requests):
    """Spans by (trace id, span id), each with its resource, scope and schema URLs, as OTLP JSON values.

    How spans are grouped into resources and scopes is not part of a span's meaning, so it is taken out.
    A span that occurs twice is an assertion error.
    """
    found = {}
    for request in requests:
        for group in request.resource_spans:
            for scope_group in group.scope_spans:
                for span in scope_group.spans:
                    key = (span.trace_id.hex(), span.span_id.hex())
                    assert key not in found, f"span {key} occurs twice"
                    found[key] = {
                        "resource": to_json(group.resource),
                        "resourceSchemaUrl": group.schema_url,
                        "scope": to_json(scope_group.scope),
                        "scopeSchemaUrl": scope_group.schema_url,
                        "span": to_json(span),
                    }
    return found


def leaves(value, path="$"):
    """(path, value) of every scalar, and of every empty object or list, in a JSON value."""
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{path}.{key}")]
    if isinstance(value, list) and value:
        return [leaf for i, item in enumerate(value) for leaf in leaves(item, f"{path}[{i}]")]
    return [(path, value)]


def assert_same(sent, read):
    """Compares two results of `records` and returns how many fields were equal.

    Every field that differs, is missing or was added is named in the error.
    """
    assert set(sent) == set(read), f"missing {set(sent) - set(read)}, unexpected {set(read) - set(sent)}"
    n_fields, differences = 0, []
    for key in sent:
        before, after = dict(leaves(sent[key])), dict(leaves(read[key]))
        for path in before.keys() | after.keys():
            n_fields += 1
            if before.get(path, "absent") != after.get(path, "absent") or type(before.get(path)) is not type(after.get(path)):
                differences.append(
                    f"{key[1]} {path}: sent {before.get(path, 'absent')!r}, read {after.get(path, 'absent')!r}"
                )
    assert not differences, "\n".join(sorted(differences)[:40])
    return n_fields


def any_value(value):
    """AnyValue of a Python value: None, bool, int, float, str, bytes, list, dict."""
    result = AnyValue()
    if value is None:
        return result
    if isinstance(value, bool):
        result.bool_value = value
    elif isinstance(value, int):
        result.int_value = value
    elif isinstance(value, float):
        result.double_value = value
    elif isinstance(value, str):
        result.string_value = value
    elif isinstance(value, bytes):
        result.bytes_value = value
    elif isinstance(value, list):
        result.array_value.SetInParent()
        result.array_value.values.extend(any_value(item) for item in value)
    elif isinstance(value, dict):
        result.kvlist_value.SetInParent()
        result.kvlist_value.values.extend(attributes(value))
    else:
        raise TypeError(f"no AnyValue for {value!r}")
    return result


def attributes(values):
    """KeyValue list of a dict, in its order."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def now_ns():
    """The current time, in nanoseconds since the epoch. Queries without a time range look back from now."""
    return time.time_ns()


def new_trace_id():
    """A trace id that no other test has used, with upper 64 bits that are not zero."""
    return b"\x01" + os.urandom(15)


def span_ids(trace_id, n):
    """`n` distinct span ids, the same for the same trace."""
    draw = random.Random(trace_id)
    ids = set()
    while len(ids) < n:
        ids.add(draw.randrange(1, 1 << 64).to_bytes(8, "big"))
    return sorted(ids)


def request(
    *,
    service="shop",
    trace_id=None,
    n_spans=1,
    name="GET /cart",
    kind=2,
    start_ns=None,
    duration_ns=1_000_000,
    values=None,
    resource=None,
    status=0,
):
    """One request with one trace: a root of kind `kind` and `n_spans - 1` internal children of it."""
    trace_id = trace_id or new_trace_id()
    start_ns = start_ns or now_ns() - 1_000_000_000
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.extend(attributes({"service.name": service, **(resource or {})}))
    scope_group = group.scope_spans.add()
    scope_group.scope.name = "tests"
    ids = span_ids(trace_id, n_spans)
    for i, span_id in enumerate(ids):
        span = scope_group.spans.add()
        span.trace_id, span.span_id = trace_id, span_id
        span.name, span.kind = (name, kind) if i == 0 else (f"step {i}", 1)
        if i > 0:
            span.parent_span_id = ids[0]
        span.start_time_unix_nano = start_ns + i * 1_000
        span.end_time_unix_nano = start_ns + i * 1_000 + duration_ns
        span.attributes.extend(attributes(values if values is not None else {"step": i}))
        if i == 0 and status:
            span.status.code = status
    return message


def trace_ids(*requests):
    """The distinct trace ids of the requests as 32 hex digits, sorted."""
    return sorted(
        {
            span.trace_id.hex()
            for message in requests
            for group in message.resource_spans
            for scope_group in group.scope_spans
            for span in scope_group.spans
        }
    )


def gzipped(body):
    """`body` as gzip."""
    return gzip.compress(body, mtime=0)
