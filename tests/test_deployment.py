"""Test that the files of platforms agree with the service: its settings, its ports, its files."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.database.connection_limit import BESIDES_POOL
from service.settings.settings import Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(COMPOSE_TEXT)["services"]
PROMETHEUS = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text(encoding="utf-8"))
APP = json.loads((ROOT / "app.json").read_text(encoding="utf-8"))
NAMES = {setting.name.upper() for setting in fields(Settings)}
SECRET = "Zk3v9QpLmT7wXc2RbN8yHs5JdF4gKa6UoE1iPq0V"


def load(environment: dict[str, Any]) -> Settings:
    """Return the settings of a platform, which must be valid."""
    assert environment.keys() <= NAMES
    return Settings.load({name: str(value) for name, value in environment.items()}, None)


def filled(environment: dict[str, Any]) -> dict[str, str]:
    """Return the environment with a secret for each variable of ``.env``."""
    return {
        name: re.sub(r"\$\{\w+:\?\}", SECRET, str(value)) for name, value in environment.items()
    }


def test_settings_of_the_compose_file_are_valid() -> None:
    settings = load(filled(COMPOSE["service"]["environment"]))
    assert settings.smtp_url == "smtp://mails:1025"
    assert settings.encryption_keys == (SECRET,)


def test_command_in_the_compose_file_makes_every_variable_that_it_needs() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?\}", COMPOSE_TEXT))
    made = re.search(r"for name in\n#\s+\(([^)]*)\)", COMPOSE_TEXT)
    assert made is not None
    assert set(re.findall(r'"(\w+)"', made[1])) == needed


def test_prometheus_of_the_compose_file_scrapes_the_port_of_the_metrics() -> None:
    environment = COMPOSE["service"]["environment"]
    (job,) = PROMETHEUS["scrape_configs"]
    (config,) = job["static_configs"]
    assert config["targets"] == [f"service:{environment['METRICS_PORT']}"]


def test_ports_of_the_compose_file_are_open_on_this_machine_only() -> None:
    ports = [port for service in COMPOSE.values() for port in service.get("ports", [])]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_container_is_stopped_after_the_drain() -> None:
    assert COMPOSE["service"]["stop_grace_period"] == "30s"
    assert Settings().shutdown_timeout < 30


def test_dockerfile_exposes_the_default_port_to_an_unprivileged_user() -> None:
    assert f"\nEXPOSE {Settings().port}\n" in DOCKERFILE
    assert f'"PORT\\") or {Settings().port}}}/health' in DOCKERFILE
    assert "\nUSER 65534:65534\n" in DOCKERFILE
    version = (ROOT / ".python-version").read_text().strip()
    assert f"\nFROM python:{version}-slim\n" in DOCKERFILE


@pytest.mark.parametrize("is_complete", [False, True])
def test_settings_of_heroku_are_valid(*, is_complete: bool) -> None:
    optional = {
        "BASE_URL": "https://a.herokuapp.com",
        "SMTP_URL": "smtp://u:p@mail.example.org:587",
        "MAIL_FROM": "a@example.org",
    }
    environment = {"DATABASE_URL": "postgres://u:p@h:5432/x"}
    for name, variable in APP["env"].items():
        if variable.get("generator") == "secret":
            environment[name] = SECRET
        elif "value" in variable:
            environment[name] = variable["value"]
        elif is_complete:
            environment[name] = optional[name]
    settings = load(environment)
    # The smallest plan of Heroku's PostgreSQL allows 20 connections.
    assert settings.web_concurrency * (settings.database_pool_size + BESIDES_POOL) < 20
    assert settings.trusted_proxies == 1
    assert set(APP["env"]) <= NAMES
