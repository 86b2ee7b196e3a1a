"""The lists of refused passwords."""

import hashlib
import os
from pathlib import Path

import pytest

from service.accounts.passwords.blocklist import MAX_PASSWORD_FILE, load_blocklist
from service.settings.settings import Settings, SettingsError


def settings(tmp_path: Path, **changes: object) -> Settings:
    return Settings(**{"data_dir": tmp_path, **changes})  # type: ignore[arg-type]


def digest(password: str) -> str:
    return hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()


async def test_common_list_has_the_passwords_that_are_tried_first(tmp_path: Path) -> None:
    blocklist = load_blocklist(settings(tmp_path, password_blocklist="common"))
    assert blocklist is not None
    for password in ("password", "12345678", "iloveyou", "Football1"):
        assert await blocklist.has(password)
    assert not await blocklist.has("correct horse battery staple")


def test_list_of_the_package_has_30000_different_passwords() -> None:
    source = Path("service/accounts/passwords/common_passwords.txt").read_text(encoding="utf-8")
    assert len(set(source.splitlines())) == 30_000


async def test_file_of_passwords_ignores_case(tmp_path: Path) -> None:
    path = tmp_path / "passwords.txt"
    path.write_text("hunter2hunter2\nStraße1234\r\n", encoding="utf-8")
    blocklist = load_blocklist(settings(tmp_path, password_blocklist=str(path)))
    assert blocklist is not None
    for password in ("Hunter2hunter2", "STRASSE1234"):
        assert await blocklist.has(password)
    assert not await blocklist.has("hunter2hunter")


@pytest.mark.parametrize("count", [1, 2, 3, 100, 5000])
@pytest.mark.parametrize("suffix", ["", ":17"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
async def test_file_of_digests_is_searched(
    tmp_path: Path, count: int, suffix: str, end: str
) -> None:
    words = [f"password {number}" for number in range(count)]
    path = tmp_path / "digests.txt"
    path.write_bytes(
        "".join(f"{line}{suffix}{end}" for line in sorted(map(digest, words))).encode()
    )
    blocklist = load_blocklist(settings(tmp_path, password_blocklist=str(path)))
    assert blocklist is not None
    for word in words[:: max(1, count // 50)]:
        assert await blocklist.has(word), word
    words.sort(key=digest)
    assert await blocklist.has(words[0]) and await blocklist.has(words[-1])
    for number in range(50):
        assert not await blocklist.has(f"other {number}")


async def test_file_of_digests_ignores_case_if_it_has_the_lower_case(tmp_path: Path) -> None:
    path = tmp_path / "digests.txt"
    path.write_text("".join(f"{line}\n" for line in sorted(map(digest, ["hunter2", "Other1"]))))
    blocklist = load_blocklist(settings(tmp_path, password_blocklist=str(path)))
    assert blocklist is not None
    for password in ("HUNTER2", "hunter2", "Other1"):
        assert await blocklist.has(password)
    assert not await blocklist.has("other1")


async def test_file_of_digests_is_searched_after_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "digests.txt"
    path.write_text(f"{digest('hunter2hunter2')}\n")
    blocklist = load_blocklist(settings(tmp_path, password_blocklist=str(path)))
    assert blocklist is not None
    path.unlink()
    assert await blocklist.has("hunter2hunter2")
    assert not await blocklist.has("another password")


async def test_byte_order_mark_is_no_part_of_the_first_password(tmp_path: Path) -> None:
    path = tmp_path / "passwords.txt"
    path.write_text("hunter2hunter2\n", encoding="utf-8-sig")
    blocklist = load_blocklist(settings(tmp_path, password_blocklist=str(path)))
    assert blocklist is not None and await blocklist.has("hunter2hunter2")


@pytest.mark.parametrize("count", [1, 1_000, 20_000])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.9999, 1.0])
def test_one_unsorted_line_of_a_small_file_is_found(
    tmp_path: Path, count: int, place: float
) -> None:
    lines = sorted(digest(str(number)) for number in range(count))
    number = int(place * count)
    lines.insert(number, "0" * 40 if number else "F" * 40)
    path = tmp_path / "digests.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(SettingsError, match="is not sorted"):
        load_blocklist(settings(tmp_path, password_blocklist=str(path)))


def test_line_appended_to_a_large_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "digests.txt"
    with path.open("w") as file:
        file.writelines(f"{number * 2000:040X}:17\n" for number in range(500_000))
    assert path.stat().st_size > MAX_PASSWORD_FILE
    load_blocklist(settings(tmp_path, password_blocklist=str(path)))
    with path.open("a") as file:
        file.write(f"{1:040X}\n")
    with pytest.raises(SettingsError, match="is not sorted"):
        load_blocklist(settings(tmp_path, password_blocklist=str(path)))


def test_pipe_is_one_clear_sentence(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(SettingsError, match="is no regular file"):
        load_blocklist(settings(tmp_path, password_blocklist=str(path)))


async def test_large_file_of_digests_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file of many gigabytes: a search reads only some kilobytes of it."""
    path = tmp_path / "digests.txt"
    lines = "".join(f"{line}\n" for line in sorted(digest(str(number)) for number in range(9)))
    path.write_text(lines)
    blocklist = load_blocklist(settings(tmp_path, password_blocklist=str(path)))
    assert blocklist is not None
    with path.open("r+b") as file:
        file.truncate(20 * 1024**3)
    assert not await blocklist.has("another")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe\x00\n", "is not in UTF-8"),
        (
            f"{digest('a')}\n{digest('b')}\n{digest('c')}\n{digest('d')}\n".encode(),
            "is a file of SHA-1 digests that is not sorted",
        ),
        (b"long enough\n" * 2_000_000, "has more than 16 MiB"),
    ],
)
def test_file_that_cannot_be_used_is_one_clear_sentence(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as raised:
        load_blocklist(settings(tmp_path, password_blocklist=str(path)))
    assert str(raised.value).startswith(f"PASSWORD_BLOCKLIST names {path}, which {reason}")


def test_missing_file_is_one_clear_sentence(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    with pytest.raises(SettingsError, match="cannot be read: No such file or directory"):
        load_blocklist(settings(tmp_path, password_blocklist=str(path)))
