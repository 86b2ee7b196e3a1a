"""Test ``run.py doctor`` as a process."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.cli.commands import OUTPUT_CLOSED
from service.database.migrate import migrate
from tests.processes import RUN, SECRET, Process, free_port, serve

DOCTOR = (*RUN, "doctor")
SECRETS = {
    "JWT_SECRET": "Qv7 signs now, and has 32 bytes or more",
    "JWT_PREVIOUS_SECRETS": "Xk2 signed before, and has 32 bytes or more",
    "ENCRYPTION_KEYS": "Zp9 encrypts, and has 32 bytes or more too",
}
PASSWORD, MAIL_PASSWORD, CLIENT_SECRET = "pass%40of-database", "pass%40of-mail", "other-client"


def examine(folder: Path, *options: str, **environment: Any) -> tuple[Process, Any]:
    """Run the command until it exits. Return the process, and with ``--json`` its result."""
    with serve(folder, command=(*DOCTOR, *options), **environment) as process:
        process.wait_for_exit()
        assert process.err == ""
        return process, json.loads(process.out) if "--json" in options else None


def test_healthy_installation_beside_the_running_service_has_status_0(tmp_path: Path) -> None:
    """The service has the embedded PostgreSQL, which the command must not disturb."""
    with serve(tmp_path / "service") as service:
        service.wait_until_serving().register("jake")
        (server,) = set(service.children()) & set(service.postgres())
        environment = {"DATA_DIR": service.data_dir, "PORT": service.port}
        process, result = examine(tmp_path / "doctor", "--json", **environment)
        assert process.wait_for_exit() == 0, result
        assert result["status"] == "ok"
        found = {finding["check"]: finding["message"] for finding in result["findings"]}
        assert found["listen"] == "a notification of DATABASE_URL arrives at DATABASE_URL"
        assert "open now" in found["database"]
        # Its other processes come and go with the connections of the service.
        assert set(service.children()) & set(service.postgres()) == {server}
        assert service.login("jake") == 200


def test_reader_that_stops_early_ends_the_command_without_a_message(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path / "data")}
    result = subprocess.run(
        DOCTOR, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (OUTPUT_CLOSED, b"")


def test_nothing_is_created_where_the_service_never_ran(tmp_path: Path) -> None:
    process, _ = examine(tmp_path)
    assert process.wait_for_exit() == 0
    assert not process.data_dir.exists()


def test_each_line_has_a_status_a_check_and_what_to_do(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    process, _ = examine(tmp_path, DATABASE_URL=new_database())
    assert process.wait_for_exit() == 1
    lines = process.out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "problem", "note"}
    (line,) = [line for line in lines if "migrations pending" in line]
    assert line.split()[:2] == ["problem", "database"]
    assert "run `python run.py migrate`" in line


def test_invalid_settings_are_problems_with_status_1(tmp_path: Path) -> None:
    process, result = examine(tmp_path, "--json", PORT="http", WEB_CONCURRENCY=0)
    assert process.wait_for_exit() == 1
    assert [finding["check"] for finding in result["findings"]] == ["settings", "settings"]


def test_send_to_needs_a_valid_email(tmp_path: Path) -> None:
    with serve(tmp_path, command=(*DOCTOR, "--send-to", "jake")) as process:
        assert process.wait_for_exit() == 2
        assert process.err == "jake is not a valid email address.\n"


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("is_reachable", [False, True])
def test_output_has_no_secret_whatever_fails(
    tmp_path: Path,
    new_database: Callable[[], str],
    options: tuple[str, ...],
    *,
    is_reachable: bool,
) -> None:
    """Servers that refuse, that are unknown, and that reject what they get."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    provider = {"name": "other", "issuer": issuer, "client_id": "x", "client_secret": CLIENT_SECRET}
    url = new_database()
    migrate(url, lambda _: None)
    head, _, tail = url.partition("@")
    user = head.rpartition("/")[2].partition(":")[0]
    environment: dict[str, Any] = {
        "DATABASE_URL": f"postgresql://{user}:{PASSWORD}@{tail}"
        if is_reachable
        else f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/x?sslpassword=of-the-certificate",
        "SMTP_URL": f"smtp://u:{MAIL_PASSWORD}@127.0.0.1:{port}",
        "MAIL_FROM": "Accounts <accounts@example.org>",
        "BASE_URL": issuer,
        "OIDC_PROVIDERS": json.dumps([provider]),
        **SECRETS,
    }
    process, _ = examine(tmp_path, *options, "--send-to", "a@example.test", **environment)
    assert process.wait_for_exit() == 1
    hidden = [*SECRETS.values(), PASSWORD, MAIL_PASSWORD, CLIENT_SECRET, "of-the-certificate"]
    hidden += [text.replace("%40", "@") for text in hidden]
    assert [secret for secret in hidden if secret in process.out] == []
    assert "unexpectedly" not in process.out


@pytest.mark.parametrize(
    "changes",
    [
        {"DATABASE_URL": f"mysql://u:{PASSWORD}@h/x"},
        {"DATABASE_URL": f"postgresql://u:{PASSWORD}@h:99999/x"},
        {"SMTP_URL": f"http://u:{MAIL_PASSWORD}@h"},
        {"JWT_SECRET": "short"},
        {"OIDC_PROVIDERS": json.dumps([{"client_secret": CLIENT_SECRET}])},
    ],
)
def test_invalid_settings_are_not_quoted(tmp_path: Path, changes: dict[str, str]) -> None:
    environment = {"DATABASE_URL": "postgresql:///x", "JWT_SECRET": SECRET, **changes}
    process, _ = examine(tmp_path, **environment)
    assert process.wait_for_exit() == 1
    for secret in (PASSWORD, MAIL_PASSWORD, CLIENT_SECRET, SECRET):
        assert secret not in process.out
