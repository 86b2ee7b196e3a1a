import asyncio
import threading
from collections import OrderedDict
from typing import Any

import pytest

from service.accounts.sessions import device_names as module
from service.accounts.sessions.device_names import MAX_NAME, MAX_PARSED, device_names

LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (LINUX, "Firefox on Linux"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36", "Chrome on Windows"),
        (f"{IPHONE} Version/17.5 Mobile/15E148 Safari/604.1", "Mobile Safari on iOS"),
        ("curl/8.5.0", "curl"),
        ("Something (Windows NT 10.0)", "Windows"),
        ("Phone/1.0", None),
        ("", None),
        (None, None),
        ("\N{ELEPHANT}" * 300, None),
    ],
)
async def test_device_name_is_the_browser_on_the_system(
    user_agent: str | None, name: str | None
) -> None:
    assert await device_names([user_agent]) == [name]


async def test_device_names_are_in_the_order_of_the_user_agents() -> None:
    names = await device_names(["curl/8.5.0", None, LINUX, "curl/8.5.0"])
    assert names == ["curl", None, "Firefox on Linux", "curl"]


class Parser:
    """A parser that records what it is given, and knows every browser by one name."""

    def __init__(self, family: str = "Browser") -> None:
        self.family = family
        self.given: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def parse_user_agent(self, user_agent: str) -> Any:
        assert self.gate.wait(30)
        self.given.append(user_agent)
        return self

    def parse_os(self, user_agent: str) -> None:
        return None


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> Parser:
    parser = Parser()
    monkeypatch.setattr(module, "_parser", lambda: parser)
    return parser


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cache", OrderedDict())


async def test_device_names_parse_each_user_agent_once(parser: Parser) -> None:
    assert await device_names(["a", "b", "a"]) == ["Browser"] * 3
    assert await device_names(["b", "a"]) == ["Browser"] * 2
    assert parser.given == ["a", "b"]


async def test_device_names_parse_and_return_texts_of_a_bounded_length(parser: Parser) -> None:
    parser.family = "x" * 300
    assert await device_names(["y" * 300]) == ["x" * MAX_NAME]
    assert parser.given == ["y" * MAX_PARSED]


async def test_event_loop_runs_while_device_names_are_parsed(parser: Parser) -> None:
    parser.gate.clear()
    task = asyncio.create_task(device_names(["a"]))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()
    parser.gate.set()
    assert await task == ["Browser"]


async def test_device_names_parse_each_user_agent_once_for_simultaneous_lists(
    parser: Parser,
) -> None:
    parser.gate.clear()
    lists = [asyncio.create_task(device_names(["a", "b"])) for _ in range(20)]
    await asyncio.sleep(0)
    parser.gate.set()
    assert await asyncio.gather(*lists) == [["Browser"] * 2] * 20
    assert parser.given == ["a", "b"]


async def test_device_names_of_lists_take_turns(parser: Parser) -> None:
    parser.gate.clear()
    long = asyncio.create_task(device_names([f"long {number}" for number in range(100)]))
    short = asyncio.create_task(device_names(["short 0", "short 1"]))
    await asyncio.sleep(0)
    parser.gate.set()
    await short
    assert len(parser.given) < 10
    assert await long == ["Browser"] * 100


async def test_device_names_after_the_time_limit_are_the_cached_ones(
    parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await device_names(["a", "c"])
    with monkeypatch.context() as patch:
        patch.setattr(module, "MAX_SECONDS", 0.0)
        assert await device_names(["a", "b", "c"]) == ["Browser", None, "Browser"]
    assert await device_names(["b"]) == ["Browser"]


async def test_device_names_cache_has_a_bounded_size(
    parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHE_SIZE", 2)
    await device_names(["a", "b", "c"])
    assert list(module._cache) == ["b", "c"]
