"""GET /api/user of 5,000 sessions in turn: the bare handler, one process and two."""

import statistics
import tempfile
from pathlib import Path

from bench import cpu, servers
from bench.cpu_quota import limited
from bench.load import Load, get
from bench.site import SESSIONS, site
from bench.table import Report, Row

ROUNDS = 7
CONNECTIONS = 64
# The kernel gives each connection to one of the processes at random: of few connections one process
# often gets many more than the other.
SHARED_CONNECTIONS = 256
SLICE = 1  # Seconds. Short, because the speed of a shared machine changes between slices.
# Of a core, for each process. Two processes and wrk then need less than two cores, so the processes
# are the limit and not wrk.
SHARE = 0.4


def measure(report: Report) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes a minute."""
    with site(report) as filled, filled.warm_service(1) as one, filled.warm_service(2) as two:
        body = servers.call(f"{one.url}/api/user", token=filled.access_tokens[0])
        with (
            servers.bare(body) as bare,
            tempfile.NamedTemporaryFile("w", suffix=".tokens") as many,
            tempfile.NamedTemporaryFile("w", suffix=".tokens") as single,
        ):
            many.write("\n".join(filled.access_tokens))
            single.write(filled.access_tokens[0])
            many.flush()
            single.flush()
            subjects = {
                "bare": _Subject(bare.url, Path(many.name), [bare.pid]),
                "many": _Subject(one.url, Path(many.name), cpu.workers(one.pid)),
                "single": _Subject(one.url, Path(single.name), cpu.workers(one.pid)),
                "two": _Subject(two.url, Path(many.name), cpu.workers(two.pid), SHARED_CONNECTIONS),
            }
            _take_turns(subjects, report)
            rows = _rows(subjects)
            slow = {
                "one": _Subject(one.url, Path(many.name), cpu.workers(one.pid), SHARED_CONNECTIONS),
                "two": _Subject(two.url, Path(many.name), cpu.workers(two.pid), SHARED_CONNECTIONS),
            }
            try:
                with limited(cpu.workers(one.pid) + cpu.workers(two.pid), SHARE):
                    _take_turns(slow, report)
            except OSError as error:
                report(f"Processes with {SHARE:.0%} of a core each: left out ({error})")
            else:
                rows += _limited_rows(slow)
    return rows


class _Subject:
    """A server, and what its rounds have measured."""

    def __init__(
        self, url: str, tokens: Path, pids: list[int], connections: int = CONNECTIONS
    ) -> None:
        self._url, self._tokens, self._pids = url, tokens, pids
        self._connections = connections
        self._loads: list[Load] = []
        self._spent: list[float] = []

    def load(self, *, keep: bool) -> None:
        before = cpu.seconds(self._pids)
        load = get(
            f"{self._url}/api/user", self._tokens, seconds=SLICE, connections=self._connections
        )
        spent = cpu.seconds(self._pids) - before
        if keep:
            self._loads.append(load)
            self._spent.append(spent / (load.rate * SLICE) * 1e6)

    @property
    def rate(self) -> float:
        return statistics.median(load.rate for load in self._loads)

    @property
    def p99(self) -> float:
        return statistics.median(load.p99 for load in self._loads)

    @property
    def spent(self) -> float:
        """The CPU of one request in microseconds, all serving processes together."""
        return statistics.median(self._spent)

    def row(self, what: str, ratio: str, aim: str = "") -> Row:
        beside = f"p99 {self.p99:.2f} ms, CPU a request {self.spent:.1f} µs"
        return Row(what, f"{self.rate:,.0f} /s", beside, ratio, aim)


def _take_turns(subjects: dict[str, _Subject], report: Report) -> None:
    for number in range(-1, ROUNDS):  # The first is a warm-up.
        report(f"GET /api/user, round {number + 1} of {ROUNDS} (0 is a warm-up) ...")
        for subject in subjects.values():
            subject.load(keep=number >= 0)


def _rows(subjects: dict[str, _Subject]) -> list[Row]:
    bare, many, single, two = subjects.values()
    return [
        bare.row("bare handler, driven by the same client", ""),
        many.row(
            f"GET /api/user, {SESSIONS:,} sessions in turn, one process",
            f"{many.rate / bare.rate:.2f} of the bare handler",
            "at least 0.70",
        ),
        single.row(
            "GET /api/user, one session, one process",
            f"{single.rate / bare.rate:.2f} of the bare handler",
        ),
        two.row(
            f"GET /api/user, {SESSIONS:,} sessions in turn, two processes",
            f"{two.rate / many.rate:.2f} times one process, beside the client",
        ),
    ]


def _limited_rows(subjects: dict[str, _Subject]) -> list[Row]:
    one, two = subjects.values()
    return [
        one.row(f"one process with {SHARE:.0%} of a core", ""),
        two.row(
            f"two processes with {SHARE:.0%} of a core each",
            f"{two.rate / one.rate:.2f} times one process",
            "at least 1.8",
        ),
    ]
