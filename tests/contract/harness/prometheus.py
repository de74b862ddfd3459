"""A strict reader of the Prometheus text format 0.0.4: what is allowed but odd is an error here."""

import re

NAME = r"[a-z][a-z0-9_]*"
LABEL = rf'{NAME}="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\d+(?:\.\d+)?)")
HELP = re.compile(rf"# HELP ({NAME}) ([^\n]+)")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge|histogram)")
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def labels_of(text):
    pairs = re.findall(rf'({NAME})="((?:[^"\\]|\\.)*)"', text or "")
    assert len(dict(pairs)) == len(pairs), f"a label twice: {text}"
    return {name: re.sub(r"\\.", lambda match: ESCAPES[match.group()], value) for name, value in pairs}


class Metrics:
    """types, helps: by family. samples: {(name, frozenset of label pairs): value}, in the order of the text."""

    def __init__(self, text):
        assert text.endswith("\n")
        self.types = {}
        self.helps = {}
        self.samples = {}
        family = None
        for line in text[:-1].split("\n"):
            family = self._take(line, family)
        for name, kind in self.types.items():
            self._check_family(name, kind)

    def _take(self, line, family):
        if match := HELP.fullmatch(line):
            assert match[1] not in self.helps, f"a second HELP: {line}"
            self.helps[match[1]] = match[2]
            return match[1]
        if match := TYPE.fullmatch(line):
            assert match[1] == family and family not in self.types, f"TYPE does not follow its HELP: {line}"
            self.types[family] = match[2]
            return family
        match = SAMPLE.fullmatch(line)
        assert match, f"no sample: {line!r}"
        suffix = match[1].removeprefix(family)
        assert match[1].startswith(family) and suffix in SUFFIXES[self.types[family]], f"not of {family}: {line}"
        series = (match[1], frozenset(labels_of(match[2]).items()))
        assert series not in self.samples, f"a series twice: {line}"
        self.samples[series] = float(match[3])
        return family

    def _check_family(self, name, kind):
        assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
        if kind == "histogram":
            counts = [series for series in self.samples if series[0] == name + "_count"]
            assert counts, name
            for _, labels in counts:
                self._check_histogram(name, labels)

    def _check_histogram(self, name, labels):
        buckets = [
            (dict(own)["le"], value)
            for (sample, own), value in self.samples.items()
            if sample == name + "_bucket" and {pair for pair in own if pair[0] != "le"} == labels
        ]
        bounds = [float(bound) for bound, _ in buckets]
        values = [value for _, value in buckets]
        assert bounds == sorted(set(bounds)) and buckets[-1][0] == "+Inf", f"{name} {labels}: {bounds}"
        assert values == sorted(values), f"{name} {labels} is not cumulative: {values}"
        assert values[-1] == self.samples[(name + "_count", labels)]
        assert (name + "_sum", labels) in self.samples

    def value(self, name, **labels):
        """The one sample with exactly these labels; 0 when there is none yet."""
        return self.samples.get((name, frozenset(labels.items())), 0)

    def total(self, name, **labels):
        """All samples of a name with at least these labels, added up."""
        return sum(v for (sample, own), v in self.samples.items() if sample == name and labels.items() <= own)

    def by(self, name, *wanted):
        """{labels: value} of what is not 0; a single label is its bare value."""
        found = {}
        for (sample, own), value in self.samples.items():
            if sample == name and value:
                key = tuple(dict(own)[label] for label in wanted)
                key = key[0] if len(wanted) == 1 else key
                found[key] = found.get(key, 0) + value
        return found


def scrape(server):
    answer = server.get("/metrics")
    assert answer.status_code == 200, answer.text
    return Metrics(answer.text)


def moved(before, after, name, *labels):
    """What a family gained between two scrapes: {labels: gain} without zeros."""
    earlier, later = before.by(name, *labels), after.by(name, *labels)
    gains = {key: later.get(key, 0) - earlier.get(key, 0) for key in {*earlier, *later}}
    return {key: gain for key, gain in gains.items() if gain}
