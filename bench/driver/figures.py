"""What a row of the table is, and how the table looks."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Aim:
    """What is wanted of a row: of our figure itself, or of its ratio to the bound."""

    of: str  # "figure" or "ratio"
    limit: float

    def text(self, row):
        sign = ">=" if self.of == "ratio" or row.higher_is_better else "<="
        unit = "x" if self.of == "ratio" else f" {row.unit}"
        return f"{sign} {number(self.limit)}{unit}"

    def met(self, row):
        if self.of == "ratio":
            return row.ratio is not None and row.ratio >= self.limit
        return row.ours >= self.limit if row.higher_is_better else row.ours <= self.limit


@dataclass
class Row:
    """One workload: figures of the rounds on both sides, taken in turn."""

    name: str
    unit: str
    higher_is_better: bool
    bound_name: str = ""
    aim: Aim = None
    note: str = ""
    missing: str = ""  # why there is no figure
    format: str = ""  # of a result
    our_rounds: list = field(default_factory=list)
    bound_rounds: list = field(default_factory=list)
    our_cpu_ms: list = field(default_factory=list)  # processor time for one request
    bound_cpu_ms: list = field(default_factory=list)

    @property
    def ours(self):
        return statistics.median(self.our_rounds) if self.our_rounds else None

    @property
    def bound(self):
        return statistics.median(self.bound_rounds) if self.bound_rounds else None

    @property
    def ratio(self):
        """Ours beside the bound; above 1 is better than the bound, whatever the unit."""
        if not self.our_rounds or not self.bound_rounds:
            return None
        return self.ours / self.bound if self.higher_is_better else self.bound / self.ours

    def as_dict(self):
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "bound": self.bound,
            "bound_name": self.bound_name,
            "ratio": self.ratio,
            "aim": self.aim.text(self) if self.aim else None,
            "met": self.aim.met(self) if self.aim and self.our_rounds else None,
            "our_rounds": self.our_rounds,
            "bound_rounds": self.bound_rounds,
            "our_cpu_ms": self.our_cpu_ms,
            "bound_cpu_ms": self.bound_cpu_ms,
            "missing": self.missing,
            "note": self.note,
        }


def number(value):
    """Three digits that matter, and names for thousands and millions."""
    if value is None:
        return ""
    for size, name in ((1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if name == ' k' else size):.3g}{name}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(rounds):
    return f"{number(min(rounds))} .. {number(max(rounds))}" if len(rounds) > 1 else ""


def cells(row):
    if row.missing:
        return [row.name, row.unit, "-", row.missing, "", "", "", "", aim_text(row), "-"]
    return [
        row.name,
        row.unit,
        number(row.ours),
        spread(row.our_rounds),
        cpu_text(row.our_cpu_ms),
        row.bound_name,
        number(row.bound),
        number(row.ratio),
        aim_text(row),
        "" if row.aim is None else "yes" if row.aim.met(row) else "NO",
    ]


def aim_text(row):
    return row.aim.text(row) if row.aim else ""


def cpu_text(figures):
    return number(statistics.median(figures)) if figures else ""


HEADINGS = ["workload", "unit", "eider", "rounds", "cpu ms", "bound", "bound's", "ratio", "aim", "met"]
RIGHT = {2, 4, 6, 7}


def table(rows):
    lines = [HEADINGS, *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]

    def text(line):
        fields = (c.rjust(w) if i in RIGHT else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths)))
        return "  ".join(fields).rstrip()

    rule = "  ".join("-" * width for width in widths)
    notes = [f"{row.name}: {row.note}" for row in rows if row.note]
    return "\n".join([text(HEADINGS), rule, *(text(line) for line in lines[1:]), *([""] if notes else []), *notes])
