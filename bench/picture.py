"""The picture of bench/README.md: latency against load, and the storm of logins."""

import statistics
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.client import Sample, percentile

STEP = 0.25  # Seconds for one point of the storm.
BLUE, ORANGE = "#2563a8", "#c2571a"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "svg.hashsalt": "bench",
}


def draw(
    path: Path,
    opened: dict[int, list[tuple[float, float, float]]],
    stormed: list[list[Sample]],
    storm: tuple[float, float, float],
) -> None:
    """Write the picture to ``path``.

    ``opened`` has the rate, the p50 and the p99 of each load, for each number of processes.
    ``stormed`` has the requests around a storm in each round, and ``storm`` its times: begin, end
    of the logins, end of the measurement.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for colour, (processes, points) in zip((BLUE, ORANGE), sorted(opened.items()), strict=True):
            rates, p50, p99 = zip(*points, strict=True)
            name = "1 process" if processes == 1 else f"{processes} processes"
            left.plot(rates, p99, color=colour, marker="o", label=f"{name}, p99")
            left.plot(rates, p50, color=colour, marker="o", ms=4, ls=":", label=f"{name}, p50")
        left.set_title("Mixed requests, 5 % writes, open loop")
        left.set_xlabel("requests a second")
        left.set_xlim(left=0)
        left.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        begin, end, until = storm
        right.axvspan(begin, end, color="#f6e3d5", label="8 connections log in")
        for share, style in ((0.99, "-"), (0.5, ":")):
            times, latencies = _over_time(stormed, until, share)
            right.plot(times, latencies, color=BLUE, ls=style, label=f"p{share * 100:.0f}")
        right.set_title("GET /api/user, 1 process, around a storm of logins")
        right.set_xlabel("seconds")
        right.set_xlim(0, until)
        for axes in (left, right):
            axes.set_ylabel("ms from when a request was due")
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.legend(loc="upper left", fontsize=9)
        # Room for the legend above the lines.
        right.set_ylim(top=6 * right.get_ylim()[1])
        figure.savefig(path, format="svg", metadata={"Date": None})


def _over_time(
    rounds: list[list[Sample]], until: float, share: float
) -> tuple[list[float], list[float]]:
    """Return the times, and the percentile of each step of time: the median of the rounds."""
    count = int(until / STEP)
    found: list[list[float]] = [[] for _ in range(count)]
    for samples in rounds:
        parts: list[list[Sample]] = [[] for _ in range(count)]
        for sample in samples:
            parts[min(int(sample.due / STEP), count - 1)].append(sample)
        for step, part in zip(found, parts, strict=True):
            step.append(percentile(part, share))
    return [(number + 0.5) * STEP for number in range(count)], [
        statistics.median(step) for step in found
    ]
