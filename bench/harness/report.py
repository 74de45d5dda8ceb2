"""From measurements to one table, and the same as JSON."""

import json
import os
import statistics
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Bar:
    """The figure to reach: at most, or at least, so much; of a peer's figure where there is one to compare with."""

    limit: float
    at_least: bool = False
    text: str = ""

    def is_reached(self, value):
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self):
        return self.text or f"{'≥' if self.at_least else '≤'} {number(self.limit)}"


@dataclass(frozen=True)
class Result:
    """One figure: what was measured, of whom, each measurement, and the bar if there is one.

    With a `peer`, whose measurements took turns with these, the bar is about the median of the pairs' ratios.
    """

    row: str
    what: str
    who: str
    unit: str
    values: tuple
    bar: Bar = None
    peer: tuple = ()
    when: str = field(default="", compare=False)

    def measured_when(self, quiet):
        return replace(self, when=quiet)

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def ratio(self):
        return statistics.median(ours / theirs for ours, theirs in zip(self.values, self.peer))

    @property
    def verdict(self):
        if self.bar is None:
            return ""
        reached = self.bar.is_reached(self.ratio if self.peer else self.median)
        share = f", {self.ratio:.2f} ×" if self.peer else ""
        return ("reached" if reached else "**not reached**") + share

    def cells(self):
        spread = f"{number(min(self.values))} – {number(max(self.values))}" if len(self.values) > 1 else ""
        bar = str(self.bar) if self.bar else ""
        return [self.what, self.who, f"{number(self.median)} {self.unit}", spread, bar, self.verdict]

    def as_json(self):
        return {
            "row": self.row, "what": self.what, "who": self.who, "unit": self.unit, "median": self.median,
            "values": list(self.values), "bar": str(self.bar) if self.bar else None,
            "verdict": self.verdict.replace("*", ""), "machine": self.when,
        }


@dataclass(frozen=True)
class Skipped:
    """A row that was not measured, and why."""

    row: str
    why: str

    def measured_when(self, _):
        return self

    def cells(self):
        return [self.row, "", "skipped", "", "", self.why]

    def as_json(self):
        return {"row": self.row, "skipped": self.why}


NO_MORE = Bar(1, text="≤ nginx")
NO_LESS = Bar(1, at_least=True, text="≥ nginx, goal 1.1 ×")


def table(machine, results):
    """A markdown table, and a line about the machine."""
    head = ["what", "who", "median", "spread", "bar", "verdict"]
    lines = [head, ["---"] * len(head)] + [result.cells() for result in results]
    about = (
        f"{machine['cpus']} CPUs ({machine['cpu']}), {machine['memory_gib']} GiB, Linux {machine['kernel']}; "
        f"{machine['haar']} at {machine['commit']}, profile {machine['profile']}; "
        f"load average {machine['load_average_before']:.1f} before, {os.getloadavg()[0]:.1f} after; "
        f"medians of {machine['rounds']} (starts: {4 * machine['rounds']}), loads of {machine['seconds']} s."
    )
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([rows, about, *busy_rows(results)])


def busy_rows(results):
    """A line about rows that began while the machine did something else, if there are any."""
    busy = {result.row: result.when for result in results if getattr(result, "when", "quiet") != "quiet"}
    words = ", ".join(f"{row} ({when})" for row, when in busy.items())
    return [f"Not on a quiet machine, and so to be taken with care: {words}."] if busy else []


def write_json(context, machine, results):
    """Everything, with every measurement, in target/bench/latest.json."""
    whole = {"machine": machine, "results": [result.as_json() for result in results]}
    (context.cache / "latest.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


def number(value):
    """Three significant digits, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percentile(sorted_values, share):
    """The value below which that share of the values lies."""
    return sorted_values[min(int(len(sorted_values) * share), len(sorted_values) - 1)]
