"""What Jaeger's v1 JSON has to show for OTLP spans: the conventions of the contract, written a second time."""

import json

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
STATUSES = {1: "OK", 2: "ERROR"}


def tag(value):
    """(type, value) of an attribute in OTLP JSON. Lists and maps are JSON text, compared as parsed values."""
    (kind, item), = value.items() if value else (("none", None),)
    if kind == "stringValue":
        return ("string", item)
    if kind == "boolValue":
        return ("bool", item)
    if kind == "intValue":
        return ("int64", int(item))
    if kind == "doubleValue":
        return ("float64", item)
    if kind == "bytesValue":
        return ("binary", item)
    if kind == "none":
        return ("string", "")
    return ("json", _plain(value))


def _plain(value):
    (kind, item), = value.items() if value else (("none", None),)
    if kind == "arrayValue":
        return [_plain(element) for element in item.get("values", [])]
    if kind == "kvlistValue":
        return {pair["key"]: _plain(pair["value"]) for pair in item.get("values", [])}
    return int(item) if kind == "intValue" else item


def shown_tags(tags, expected):
    """Tags of a Jaeger answer as {key: (type, value)}; JSON text is parsed where JSON is expected."""
    found = {}
    for entry in tags:
        assert set(entry) == {"key", "type", "value"}, entry
        assert entry["key"] not in found, f"tag {entry['key']} occurs twice"
        kind, value = entry["type"], entry["value"]
        if expected.get(entry["key"], ("",))[0] == "json" and kind == "string":
            kind, value = "json", json.loads(value)
        if kind == "int64":
            assert isinstance(value, str) == (abs(int(value)) > 2**53 - 1), f"{entry}: text only beyond 2^53-1"
            value = int(value)
        found[entry["key"]] = (kind, value)
    return found


def expected_process(record):
    """(service name, tags) of a span's process."""
    tags = {pair["key"]: tag(pair["value"]) for pair in record["resource"].get("attributes", [])}
    service = tags.pop("service.name", None)
    if service is None:
        return ("OTLPResourceNoServiceName", tags)
    return (service[1], tags)


def expected_tags(record):
    """Tags of a span: its attributes and what OTLP's own fields become."""
    span, scope = record["span"], record["scope"]
    tags = {pair["key"]: tag(pair["value"]) for pair in span.get("attributes", [])}
    if span.get("kind"):
        tags["span.kind"] = ("string", KINDS[span["kind"]])
    code = span.get("status", {}).get("code", 0)
    if code:
        tags["otel.status_code"] = ("string", STATUSES[code])
    if code == 2:
        tags["error"] = ("bool", True)
    if span.get("status", {}).get("message"):
        tags["otel.status_description"] = ("string", span["status"]["message"])
    if span.get("traceState"):
        tags["w3c.tracestate"] = ("string", span["traceState"])
    if scope.get("name"):
        tags["otel.scope.name"] = ("string", scope["name"])
    if scope.get("version"):
        tags["otel.scope.version"] = ("string", scope["version"])
    return tags


def short_id(trace_id):
    """Jaeger leaves out the upper 64 bits of a trace id when they are zero."""
    return trace_id[16:] if trace_id.startswith("0" * 16) else trace_id


def assert_shows(trace, sent):
    """Checks a v1 trace against records of the spans sent, and returns how many values were compared."""
    n_values = 0
    spans = {span["spanID"]: span for span in trace["spans"]}
    assert len(spans) == len(trace["spans"]), "a span occurs twice"
    assert set(spans) == {span_id for _, span_id in sent}
    for (trace_id, span_id), record in sent.items():
        shown, span = spans[span_id], record["span"]
        assert shown["traceID"] == trace["traceID"] == short_id(trace_id)
        assert shown["operationName"] == span.get("name", "")
        start_ns, end_ns = int(span.get("startTimeUnixNano", 0)), int(span.get("endTimeUnixNano", 0))
        assert shown["startTime"] == start_ns // 1000
        assert shown["duration"] == max(end_ns - start_ns, 0) // 1000
        n_values += 5

        parent = span.get("parentSpanId")
        references = [("CHILD_OF", short_id(trace_id), parent)] if parent else []
        references += [("FOLLOWS_FROM", short_id(link["traceId"]), link["spanId"]) for link in span.get("links", [])]
        assert [(r["refType"], r["traceID"], r["spanID"]) for r in shown["references"]] == references
        n_values += len(references)

        expected = expected_tags(record)
        tags = shown_tags(shown["tags"], expected)
        for key in expected:
            assert tags.get(key) == expected[key], f"{span['name']} tag {key}: {tags.get(key)} is not {expected[key]}"
        n_values += len(expected)

        service, expected = expected_process(record)
        process = trace["processes"][shown["processID"]]
        assert process["serviceName"] == service
        assert shown_tags(process["tags"], expected) == expected
        n_values += 1 + len(expected)

        # Jaeger's adjusters sort events by time.
        events = sorted(span.get("events", []), key=lambda event: int(event.get("timeUnixNano", 0)))
        assert len(shown["logs"]) == len(events)
        for log, event in zip(shown["logs"], events, strict=True):
            assert log["timestamp"] == int(event.get("timeUnixNano", 0)) // 1000
            expected = {pair["key"]: tag(pair["value"]) for pair in event.get("attributes", [])}
            if event.get("name"):
                expected.setdefault("event", ("string", event["name"]))
            assert shown_tags(log["fields"], expected) == expected
            n_values += 1 + len(expected)
    return n_values
