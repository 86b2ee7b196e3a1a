"""A real Prometheus that scrapes a service, with its rules sixty times as fast."""

import json
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, Process, eventually, free_port

ALERTS = ROOT / "monitoring/alerts.yml"

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="needs Prometheus: apt install prometheus",
)


class Prometheus(Process):
    """Scrape a service every second. ``metrics_port`` is the port of its metrics."""

    def __init__(self, folder: Path, metrics_port: int) -> None:
        folder.mkdir()
        rules = folder / "alerts.yml"
        rules.write_text(in_seconds(ALERTS.read_text(encoding="utf-8")))
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
            f"rule_files: [{rules}]\n"
            "scrape_configs:\n"
            "- job_name: conduit\n"
            f"  static_configs: [{{targets: ['127.0.0.1:{metrics_port}']}}]\n"
        )
        self._port = free_port()
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        super().__init__(command, folder, {})
        self._fetched = -1
        eventually(self._is_ready, "the start of Prometheus")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of ``expression`` now. Fail if it is invalid."""
        result: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return result

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def fires(self, *names: str) -> bool:
        """Return whether all these alerts fire."""
        return self.firing() >= set(names)

    def _get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def _is_ready(self) -> bool:
        try:
            return bool(self.query("up"))
        except OSError:
            return False


def in_seconds(rules: str) -> str:
    """Return ``rules`` with a second for each minute, and a minute for each hour."""
    faster = re.sub(r"(for: |\[)(\d+)m\b", r"\1\2s", rules)
    faster = re.sub(r"(for: |\[)(\d+)h\b", r"\1\2m", faster)
    return re.sub(r"\b(\d+) \* 60\b", r"\1", faster)


@contextmanager
def repeatedly(act: Callable[[], object], threads: int = 1) -> Iterator[None]:
    """Call ``act`` again and again in ``threads`` threads during the block.

    Ignore requests whose connection is lost.
    """
    is_over = threading.Event()

    def run() -> None:
        while not is_over.is_set():
            try:
                act()
            except OSError:
                is_over.wait(0.05)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in running:
            thread.join()


def check_rules() -> subprocess.CompletedProcess[str]:
    """Let promtool check the rules."""
    command = ["promtool", "check", "rules", str(ALERTS)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
