"""Read metrics as Prometheus does, with the parser of its Python client."""

from prometheus_client.parser import text_string_to_metric_families

from service.metrics.families import PREFIX
from service.metrics.shared_values import SharedValues, WorkerValues

Labels = tuple[tuple[str, str], ...]


def worker_values(shared: SharedValues, index: int) -> WorkerValues:
    """Return the values of the worker at ``index``, as in its own process."""
    values = WorkerValues(shared)
    values.use_row(index)
    return values


class Scrape:
    """The samples of one response."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self.samples: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(text):
            self.types[family.name.removeprefix(PREFIX)] = family.type
            for sample in family.samples:
                key = sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))
                assert key not in self.samples, f"{key} is there twice"
                self.samples[key] = sample.value

    def get(self, name: str, **labels: str) -> float | None:
        """Return the sample with exactly these labels, or ``None``."""
        return self.samples.get((name, tuple(sorted(labels.items()))))

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have at least these labels."""
        return sum(
            value
            for (found, its_labels), value in self.samples.items()
            if found == name and labels.items() <= dict(its_labels).items()
        )

    def workers(self) -> set[str]:
        """Return the values of the label ``worker``."""
        return {value for _, labels in self.samples for name, value in labels if name == "worker"}

    def counters(self) -> dict[tuple[str, Labels], float]:
        """Return the samples that must not go back: counters, and the counts of histograms."""
        ends = ("_total", "_count", "_sum", "_bucket")
        return {key: value for key, value in self.samples.items() if key[0].endswith(ends)}
