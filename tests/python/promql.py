"""Data and expressions, generated from a seed: what PromQL is compared with."""

import math
import random

from remote_write import STALE, Histogram

STEP_MS = 15_000


def data(draw, end_ms, n_rounds=240):
    """Rounds of scrapes up to `end_ms`: each a list of (labels, [(ms, value)]), in order of time."""
    series = []
    for job in ("api", "web", "db"):
        for instance in ("a", "b"):
            common = {"job": job, "instance": instance, "env": "prod" if instance == "a" else "dev"}
            for code in ("200", "404", "500"):
                series.append(counter(draw, {"__name__": "requests_total", "code": code, **common}))
            series.append(gauge(draw, {"__name__": "temperature", **common}))
            series.append(gauge(draw, {"__name__": "memory_bytes", **common}, 1e9))
            for le in ("0.1", "0.5", "1", "+Inf"):
                series.append(bucket(draw, {"__name__": "latency_seconds_bucket", "le": le, **common}))
            series.append(constant({"__name__": "target_info", "version": f"v{draw.randrange(3)}", **common}))
        for instance, schema in (("a", 3), ("b", 1)):
            series.append(native(draw, {"__name__": "native", "job": job, "instance": instance}, schema))
        series.append(native(draw, {"__name__": "custom", "job": job, "instance": "a"}, -53))
    series.append(special(draw, {"__name__": "odd", "kind": "nan"}, [math.nan, 1.0, math.inf, -math.inf, -0.0]))
    series.append(special(draw, {"__name__": "odd", "kind": "negative"}, [-5.0, -1.5, 0.0, 2.5]))
    series.append(gauge(draw, {"__name__": "sparse"}, gaps=0.7))
    series.append(gauge(draw, {"__name__": "ends"}, until=n_rounds // 2))
    rounds = []
    for position in range(n_rounds):
        time_ms = end_ms - (n_rounds - 1 - position) * STEP_MS
        batch = []
        for labels, offset_ms, next_value in series:
            value = next_value(position)
            if value is not None:
                batch.append((labels, [(time_ms - offset_ms, value)]))
        rounds.append(batch)
    return rounds


def counter(draw, labels):
    state = {"value": float(draw.randrange(100))}
    rate = draw.choice([0.5, 3, 40])

    def next_value(_):
        if draw.random() < 0.01:
            state["value"] = 0.0
        state["value"] += float(draw.randrange(int(rate * 2) + 1))
        return None if draw.random() < 0.02 else state["value"]

    return labels, draw.randrange(STEP_MS), next_value


def bucket(draw, labels):
    state = {"value": 0.0}
    size = {"0.1": 3, "0.5": 6, "1": 8, "+Inf": 10}[labels["le"]]

    def next_value(_):
        state["value"] += size
        return state["value"]

    return labels, 1_000, next_value


def native(draw, labels, schema):
    state = {"counts": [0] * 6, "total": 0.0, "zero": 0}

    def next_value(_):
        if draw.random() < 0.02:
            state.update(counts=[0] * 6, total=0.0, zero=0)
        state["counts"] = [count + draw.randrange(4) for count in state["counts"]]
        state["total"] += draw.randrange(20)
        if schema == -53:
            return Histogram(-53, 0, state["counts"], state["total"], bounds=(0.1, 0.5, 1.0, 2.5, 10.0))
        state["zero"] += draw.randrange(2)
        return Histogram(schema, -2, state["counts"], state["total"], state["zero"])

    return labels, draw.randrange(STEP_MS), next_value


def gauge(draw, labels, middle=20.0, gaps=0.0, until=None):
    def next_value(position):
        if until is not None and position >= until:
            return STALE if position == until else None
        if draw.random() < gaps:
            return None
        return round(middle * (1 + draw.uniform(-0.3, 0.3)), draw.choice([0, 2, 6]))

    return labels, draw.randrange(STEP_MS), next_value


def constant(labels):
    return labels, 500, lambda _: 1.0


def special(draw, labels, values):
    return labels, 2_000, lambda _: draw.choice(values)


SELECTORS = [
    "requests_total",
    'requests_total{code="200"}',
    'requests_total{code=~"4..|5..", job!="db"}',
    "temperature",
    'temperature{env="dev"}',
    "memory_bytes",
    "latency_seconds_bucket",
    "odd",
    "sparse",
    "ends",
    "nothing",
    'target_info{job=~"a.*"}',
    "native",
    '{__name__=~"temp.*|odd"}',
]
LABELS = ["job", "instance", "env", "code", "kind", "le", "nolabel"]
ON_WINDOWS = """rate increase delta irate idelta changes resets deriv avg_over_time min_over_time max_over_time sum_over_time
count_over_time last_over_time present_over_time stddev_over_time stdvar_over_time mad_over_time
absent_over_time""".split()
ON_VECTORS = """abs ceil floor sqrt ln log2 log10 sgn sin cos tan asin acos atan sinh cosh tanh deg rad round sort
sort_desc timestamp absent minute hour day_of_week day_of_month day_of_year days_in_month month year""".split()
AGGREGATES = "sum avg min max count stddev stdvar group".split()
ARITHMETIC = "+ - * / % ^ atan2".split()
COMPARISONS = "== != > < >= <=".split()


class Expressions:
    """An endless stream of expressions."""

    def __init__(self, draw, end_s):
        self.draw = draw
        self.end_s = end_s

    def expression(self, depth=3):
        draw = self.draw
        kind = draw.random()
        if depth == 0 or kind < 0.15:
            return self.selector()
        if kind < 0.40:
            return self.window_call(depth)
        if kind < 0.52:
            return f"{draw.choice(ON_VECTORS)}({self.expression(depth - 1)})"
        if kind < 0.70:
            return self.aggregate(depth)
        if kind < 0.90:
            return self.binary(depth)
        return self.other(depth)

    def positive(self):
        """An expression that gives native histograms with no count below zero."""
        window = f"{self.draw.choice(['native', 'custom'])}[{self.draw.choice(['1m', '5m', '11m'])}]"
        call = f"{self.draw.choice(['rate', 'increase', 'sum_over_time', 'avg_over_time', 'last_over_time'])}({window})"
        return self.draw.choice([call, f"sum by (job) ({call})", f"avg ({call})"])

    def native(self):
        """An expression that gives native histograms."""
        draw = self.draw
        name = draw.choice(["native", 'native{instance="a"}', "custom"])
        window = f"{name}[{draw.choice(['1m', '5m', '11m'])}]"
        inner = draw.choice(
            [
                name + self.modifiers(),
                f"{draw.choice(['rate', 'increase', 'delta', 'sum_over_time', 'avg_over_time', 'last_over_time'])}({window})",
            ]
        )
        return draw.choice(
            [
                inner,
                f"{draw.choice(['sum', 'avg'])}{draw.choice(['', ' by (job)', ' without (instance)'])} ({inner})",
                f"({inner}) {draw.choice('*/')} 2",
                f"({inner}) {draw.choice('+-')} ({inner})",
                f"-({inner})",
            ]
        )

    def modifiers(self):
        draw = self.draw
        out = ""
        if draw.random() < 0.15:
            out += f" offset {draw.choice(['1m', '7m', '-3m', '90s', '0s'])}"
        if draw.random() < 0.1:
            out += draw.choice([f" @ {self.end_s - 600}", " @ start()", " @ end()", f" @ {self.end_s - 1234.5}"])
        return out

    def selector(self):
        return self.draw.choice(SELECTORS) + self.modifiers()

    def window(self, depth):
        draw = self.draw
        if depth > 1 and draw.random() < 0.25:
            step = draw.choice(["", "30s", "1m", "37s"])
            return f"({self.expression(depth - 2)})[{draw.choice(['5m', '11m'])}:{step}]{self.modifiers()}"
        return f"{draw.choice(SELECTORS)}[{draw.choice(['15s', '30s', '1m', '5m', '7m30s'])}]{self.modifiers()}"

    def window_call(self, depth):
        draw = self.draw
        kind = draw.random()
        if kind < 0.08:
            return f"quantile_over_time({draw.choice(['0.5', '0.9', '-1', '2', '0'])}, {self.window(depth)})"
        if kind < 0.16:
            return f"predict_linear({self.window(depth)}, {draw.choice(['60', '3600', '-5'])})"
        if kind < 0.22:
            return f"double_exponential_smoothing({self.window(depth)}, 0.3, 0.7)"
        return f"{draw.choice(ON_WINDOWS)}({self.window(depth)})"

    def labels(self):
        return ", ".join(self.draw.sample(LABELS, self.draw.randrange(3)))

    def aggregate(self, depth):
        draw = self.draw
        grouping = draw.choice(["", "", f" by ({self.labels()})", f" without ({self.labels()})"])
        kind = draw.random()
        inner = self.expression(depth - 1)
        # Which of several equal values it takes is nobody's promise, so nothing is computed from it.
        if kind < 0.12 and depth == 3:
            return f"{draw.choice(['topk', 'bottomk'])}{grouping}({draw.choice(['1', '3', '100', '0'])}, {inner})"
        if kind < 0.22:
            return f"quantile{grouping}({draw.choice(['0.5', '0.99', '-0.1', '1.1'])}, {inner})"
        if kind < 0.28:
            # Of what is computed, the last bits of the text may differ.
            return f"count_values{grouping}(\"value\", {draw.choice([s for s in SELECTORS if s != 'native'])})"
        return f"{draw.choice(AGGREGATES)}{grouping}({inner})"

    def binary(self, depth):
        draw = self.draw
        if draw.random() < 0.3:
            sides = [self.expression(depth - 1), draw.choice(["2", "0", "-1.5", "1e3", "scalar(temperature{job='api',env='dev'})", "time()"])]
            draw.shuffle(sides)
            if draw.random() < 0.5:
                return f"({sides[0]}) {draw.choice(ARITHMETIC)} ({sides[1]})"
            return f"({sides[0]}) {draw.choice(COMPARISONS)} {draw.choice(['', 'bool '])}({sides[1]})"
        matching = draw.choice(
            [
                "",
                "",
                f" on ({self.labels()})",
                f" ignoring ({self.labels()})",
                " on (job, instance) group_left ()",
                " on (job, instance) group_right (version)",
                " ignoring (code) group_left (version)",
            ]
        )
        lhs, rhs = self.expression(depth - 1), self.expression(depth - 1)
        kind = draw.random()
        if kind < 0.25:
            matching = matching if "group" not in matching else ""
            return f"({lhs}) {draw.choice(['and', 'or', 'unless'])}{matching} ({rhs})"
        if kind < 0.6:
            return f"({lhs}) {draw.choice(ARITHMETIC)}{matching} ({rhs})"
        return f"({lhs}) {draw.choice(COMPARISONS)}{draw.choice(['', ' bool'])}{matching} ({rhs})"

    def other(self, depth):
        draw = self.draw
        inner = self.expression(depth - 1)
        return draw.choice(
            [
                f"-({inner})",
                f"clamp({inner}, 0, 25)",
                f"clamp_min({inner}, 3)",
                f"clamp_max({inner}, 3)",
                f"round({inner}, 0.25)",
                f"scalar({inner})",
                f"vector({draw.choice(['1', 'time()', 'pi()'])})",
                f'label_replace({inner}, "new", "$1-x", "job", "(.*)")',
                f'label_join({inner}, "new", "-", "job", "instance")',
                f'label_replace({inner}, "job", "", "env", "dev")',
                f"histogram_quantile({draw.choice(['0.5', '0.9', '1.5', '0'])}, rate(latency_seconds_bucket[5m]))",
                f"histogram_quantile(0.9, sum by (le, job) (rate(latency_seconds_bucket[{draw.choice(['1m', '5m'])}])))",
                f"histogram_quantile({draw.choice(['0.5', '0.9', '0.1', '1'])}, {self.positive()})",
                f"histogram_{draw.choice(['count', 'sum', 'avg', 'stddev', 'stdvar'])}({self.native()})",
                f"histogram_fraction({draw.choice(['0', '0.3', '-1'])}, {draw.choice(['1', '0.9', '+Inf'])}, {self.positive()})",
                self.native(),
                "histogram_fraction(0.2, 0.7, rate(latency_seconds_bucket[5m]))",
                f"absent({inner})",
                f"info({draw.choice(['rate(requests_total[5m])', 'temperature'])})",
                f'sort_by_label({inner}, "job", "instance")',
                f"count(limitk(2, {inner}))",
            ]
        )
