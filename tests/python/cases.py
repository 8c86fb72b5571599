"""Telemetry that has everything in it, for tests of losslessness."""

import math

import otlp

VALUES = {
    "text": "naïve 日本語 🦀 \"quoted\" \\ \n\t\x01",
    "empty": "",
    "long": "x" * 10_000,
    "yes": True,
    "no": False,
    "zero": 0,
    "int": 42,
    "min": -(2**63),
    "max": 2**63 - 1,
    "beyond double": 2**53 + 1,
    "double": 0.1,
    "whole": 3.0,
    "minus zero": -0.0,
    "tiny": 5e-324,
    "huge": 1.7976931348623157e308,
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "texts": ["a", "", "ü"],
    "ints": [1, -2, 2**62],
    "doubles": [0.5, math.nan, -math.inf],
    "bools": [True, False],
    "none": [],
    "bytes": b"\x00\xff\x80bytes",
    "no bytes": b"",
}


def raw_request():
    """What no SDK sends: nested maps, dropped counts, schema URLs, entity references, all flags, odd times."""
    message = otlp.ExportTraceServiceRequest()
    trace_id = otlp.new_trace_id()
    ids = otlp.span_ids(trace_id, 8)
    start_ns = otlp.now_ns() - 3_000_000_001

    nested = {
        "map": {"a": {"b": {"c": [1, "two", 3.5, True, None, b"\x00", {"d": {}}]}}},
        "mixed": ["a", 1, 0.5, False, None, [], [[]], {"k": "v"}, b"bytes"],
        "no value": None,
        "empty map": {},
        "same": "first",
    }
    group = message.resource_spans.add(schema_url="https://example.com/resource/1.0")
    group.resource.attributes.extend(otlp.attributes({"service.name": "raw", **nested}))
    group.resource.dropped_attributes_count = 3
    group.resource.entity_refs.add(
        schema_url="https://example.com/entity/1.0", type="service", id_keys=["service.name"], description_keys=["map"]
    )
    group.resource.entity_refs.add(type="host", id_keys=["host.id", "host.name"])
    scope_group = group.scope_spans.add(schema_url="https://example.com/scope/1.0")
    scope_group.scope.name, scope_group.scope.version = "library", "0.0.1-beta+x"
    scope_group.scope.attributes.extend(otlp.attributes({"scope.map": {"x": [1, 2]}, "n": -1}))
    scope_group.scope.dropped_attributes_count = 4

    full = scope_group.spans.add(
        trace_id=trace_id,
        span_id=ids[0],
        trace_state="vendor=a:b,other=c",
        parent_span_id=b"\x00" * 7 + b"\x01",
        flags=0xFFFFFFFF,
        name="full",
        kind=4,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + 999,
        dropped_attributes_count=1,
        dropped_events_count=2,
        dropped_links_count=4_294_967_295,
    )
    full.attributes.extend(otlp.attributes({**VALUES, **nested}))
    full.status.code, full.status.message = 2, "a message"
    event = full.events.add(time_unix_nano=start_ns + 1, name="an event", dropped_attributes_count=7)
    event.attributes.extend(otlp.attributes({**VALUES, **nested}))
    full.events.add(time_unix_nano=start_ns - 1)
    full.events.add(name="no time")
    link = full.links.add(
        trace_id=b"\xaa" * 16, span_id=b"\xbb" * 8, trace_state="k=v", dropped_attributes_count=9, flags=0x301
    )
    link.attributes.extend(otlp.attributes({**VALUES, **nested}))
    full.links.add(trace_id=trace_id, span_id=ids[1])

    # A message on a status that is not an error, no name, no kind, the same instant at both ends.
    bare = scope_group.spans.add(trace_id=trace_id, span_id=ids[1], flags=0x100, start_time_unix_nano=start_ns)
    bare.end_time_unix_nano = start_ns
    bare.status.code, bare.status.message = 1, "fine"

    # A second scope without a name in the same resource, and names that differ only in case or a trailing space.
    anonymous = group.scope_spans.add()
    for i, name in enumerate(["Name", "name", "name ", "ナーメ"]):
        anonymous.spans.add(
            trace_id=trace_id,
            span_id=ids[2 + i],
            parent_span_id=ids[0],
            name=name,
            kind=i,
            start_time_unix_nano=start_ns + i,
            end_time_unix_nano=start_ns + 10**12 * i + i,
        )

    # A resource that has attributes but no service name, and one without anything.
    unnamed = message.resource_spans.add()
    unnamed.resource.attributes.extend(otlp.attributes({"host.name": "h"}))
    unnamed.scope_spans.add().spans.add(
        trace_id=trace_id, span_id=ids[6], name="no service", start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + 5
    )
    message.resource_spans.add().scope_spans.add().spans.add(
        trace_id=trace_id, span_id=ids[7], name="no resource", start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + 5
    )
    return message, trace_id.hex()
