"""Scripts of PromQL: series, questions, and what a Prometheus answered.

    load 1m
      requests{code="200"} 0+10x9 _ stale 7

    eval instant at 5m rate(requests[5m])
      {code="200"} 0.16666666666666666

`shared/promql/tests/scripts/README.md` is the whole format. Run as a program, this module writes the answers:

    tests/.venv/bin/python tests/python/promql_script.py [SCRIPT…]
"""

import re
import struct
import sys
import tempfile
from pathlib import Path

import requests

import remote_write
from prometheus import Prometheus

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "promql" / "tests" / "scripts"
ORDERED = re.compile(r"^\s*(sort|topk|bottomk)")
UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(text):
    """Milliseconds of `1h30m` or of plain seconds."""
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return round(float(text) * 1000)
    parts = re.findall(r"(\d+)(ms|[smhd])", text)
    assert "".join(n + unit for n, unit in parts) == text, text
    return sum(int(n) * UNITS_MS[unit] for n, unit in parts)


def number(text):
    return remote_write.STALE if text == "stale" else float(text.replace("Inf", "inf"))


def histogram(text):
    fields = dict(re.findall(r"(\w+):(\[[^\]]*\]|\S+)", text))
    items = lambda name: fields.get(name, "[]").strip("[]").split()
    counts = [int(count) for count in items("buckets")]
    bounds = [float(bound) for bound in items("bounds")]
    found = remote_write.Histogram(
        int(fields["schema"]), int(fields.get("offset", 0)), counts, float(fields.get("sum", 0)), int(fields.get("zero", 0)), bounds
    )
    assert int(fields["count"]) == sum(counts) + found.zero, f"count of {text}"
    return found


def values(text):
    """The values of a line of `load`, None for no sample."""
    found = []
    for item in re.findall(r"\{\{[^}]*\}\}(?:x\d+)?|\S+", text):
        if item.startswith("{{"):
            body, times = re.fullmatch(r"\{\{(.*)\}\}(?:x(\d+))?", item).groups()
            found += [histogram(body)] * int(times or 1)
        elif match := re.fullmatch(r"_(?:x(\d+))?", item):
            found += [None] * int(match[1] or 1)
        elif match := re.fullmatch(r"(-?[\d.]+)([+-][\d.]+)x(\d+)", item):
            first, step, times = float(match[1]), float(match[2]), int(match[3])
            found += [first + i * step for i in range(times + 1)]
        elif match := re.fullmatch(r"(-?[\d.]+(?:e\d+)?)x(\d+)", item):
            found += [float(match[1])] * (int(match[2]) + 1)
        else:
            found.append(number(item))
    return found


def selector(text):
    """Labels of `name{label="value"}`."""
    name, rest = re.fullmatch(r"\s*([a-zA-Z_:][\w:]*)?(?:\{(.*)\})?\s*", text).groups()
    labels = dict(re.findall(r'(\w+)="([^"]*)"', rest or ""))
    return {**({"__name__": name} if name else {}), **labels}


class Section:
    """The loads and questions from one `clear` to the next; questions as (line, match of `EVAL`)."""

    def __init__(self):
        self.loads, self.questions = [], []


EVAL = re.compile(r"eval (?:instant at (?P<at>\S+)|range from (?P<start>\S+) to (?P<end>\S+) step (?P<step>\S+)) (?P<query>.*)")


def sections(lines):
    found, step_ms = [Section()], None
    for position, line in enumerate(lines):
        if line.startswith("clear"):
            found.append(Section())
        elif line.startswith("load "):
            step_ms = milliseconds(line.split()[1])
        elif line.startswith("eval "):
            step_ms = None
            found[-1].questions.append((position, EVAL.fullmatch(line)))
        elif line.startswith(" ") and step_ms and line.strip() and not line.strip().startswith("#"):
            labels, text = re.fullmatch(r"\s*((?:[\w:]+)?(?:\{.*?\})?)\s+(.*)", line).groups()
            samples = [(i * step_ms, value) for i, value in enumerate(values(text)) if value is not None]
            found[-1].loads.append((selector(labels), samples))
    return found


def load(base, loads):
    """Writes the series in the order of time, as Prometheus wants it."""
    by_time = {}
    for labels, samples in loads:
        for time_ms, value in samples:
            by_time.setdefault(time_ms, []).append((labels, [(time_ms, value)]))
    for time_ms in sorted(by_time):
        response = remote_write.post(base, remote_write.request(by_time[time_ms]))
        assert response.status_code == 204, response.text


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def labels_text(metric):
    pairs = ", ".join(f"{quoted(k) if not re.fullmatch('[a-zA-Z_][a-zA-Z0-9_]*', k) else k}={quoted(v)}" for k, v in sorted(metric.items()) if k != "__name__")
    return metric.get("__name__", "") + "{" + pairs + "}"


def sample_text(value):
    if isinstance(value, str):
        return value
    buckets = " ".join(":".join(map(str, bucket)) for bucket in value.get("buckets", []))
    return f"{{{{count:{value['count']} sum:{value['sum']} buckets:[{buckets}]}}}}"


def answer(base, question):
    """The lines of what `base` answers."""
    query = question["query"]
    if question["at"]:
        response = requests.post(f"{base}/api/v1/query", data={"query": query, "time": milliseconds(question["at"]) / 1000}, timeout=60)
    else:
        start, end, step = (milliseconds(question[name]) / 1000 for name in ("start", "end", "step"))
        parameters = {"query": query, "start": start, "end": end, "step": step}
        response = requests.post(f"{base}/api/v1/query_range", data=parameters, timeout=60)
    body = response.json()
    if body["status"] == "error":
        return [f"  error {body['error'].removeprefix('invalid parameter ').removeprefix(chr(34) + 'query' + chr(34) + ': ')}"]
    lines = [f"  warn {text}" for text in sorted(body.get("warnings", []))]
    lines += [f"  info {text}" for text in sorted(body.get("infos", []))]
    kind, result = body["data"]["resultType"], body["data"]["result"]
    if kind in ("scalar", "string"):
        return [*lines, f"  {kind} {result[1] if kind == 'scalar' else quoted(result[1])}"]
    found = []
    for series in result:
        if kind == "vector":
            shown = sample_text((series.get("value") or series["histogram"])[1])
        elif question["at"]:
            points = sorted(series.get("values", []) + series.get("histograms", []), key=lambda point: point[0])
            shown = " ".join(f"{sample_text(value)}@{at:g}" for at, value in points)
        else:
            points = {round(at * 1000): value for at, value in series.get("values", []) + series.get("histograms", [])}
            times = range(round(start * 1000), round(end * 1000) + 1, round(step * 1000))
            shown = " ".join(sample_text(points[at]) if at in points else "_" for at in times)
        found.append(f"  {labels_text(series['metric'])} {shown}")
    return lines + (found if ORDERED.match(query) else sorted(found))


def answered(script, base_of):
    """The script's lines with the answers that `base_of(section)`, a context manager, gives."""
    lines = [line.rstrip() for line in script.read_text().splitlines()]
    answers = {}
    for section in sections(lines):
        if not section.questions:
            continue
        with base_of() as base:
            load(base, section.loads)
            for position, question in section.questions:
                answers[position] = answer(base, question)
    result, skipping = [], False
    for position, line in enumerate(lines):
        if skipping and line.startswith("  "):
            continue
        skipping = position in answers
        result += [line, *answers.get(position, [])]
    return result


class Fresh(Prometheus):
    """A Prometheus with nothing in it, as its URL."""

    def __init__(self):
        self.room = tempfile.TemporaryDirectory()
        super().__init__(Path(self.room.name) / "prometheus")

    def __enter__(self):
        return super().__enter__().url

    def __exit__(self, *_):
        super().__exit__()
        self.room.cleanup()


if __name__ == "__main__":
    for script in map(Path, sys.argv[1:] or sorted(FOLDER.glob("*.test"))):
        script.write_text("\n".join(answered(script, Fresh)) + "\n")
        print(script.name)
