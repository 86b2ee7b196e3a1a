"""Passwords that are refused because attackers try them first (NIST SP 800-63B-4, section 3.1.1.2).

The list is that of the package, or a file of the operator: a password or an SHA-1 digest a line.
The files of digests of "Have I Been Pwned" (``DIGEST:count``, sorted) have tens of gigabytes. They
are searched on the disk, in a thread, and never loaded.
"""

import asyncio
import hashlib
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO, Protocol

from service.settings.settings import Settings, SettingsError

MAX_PASSWORD_FILE = 16 * 1024 * 1024  # Bytes of a file of passwords, which is loaded.
MAX_LINE = 256  # Bytes of a line of digests.
SAMPLES = 1000  # Parts of a file of digests whose lines are compared: together 16 MiB.
SAMPLE = MAX_PASSWORD_FILE // SAMPLES + 1  # Bytes.

_DIGEST = re.compile(rb"[0-9A-Fa-f]{40}(?::\d+)?")


class Blocklist(Protocol):
    """A list of refused passwords."""

    async def has(self, password: str) -> bool:
        """Return whether ``password`` is in the list."""
        ...


class Words:
    """A list in memory. Case does not matter."""

    def __init__(self, text: str) -> None:
        """``text`` has a password a line. Those that are too short for any account are dropped."""
        self._words = frozenset(
            word.casefold() for word in text.splitlines() if len(word) >= MIN_LENGTH
        )

    async def has(self, password: str) -> bool:
        """Return whether ``password`` is in the list."""
        return password.casefold() in self._words


class Digests:
    """A sorted file of SHA-1 digests, which is searched on the disk.

    The file stays open: a running service still has the list after the file is removed or replaced.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)

    async def has(self, password: str) -> bool:
        """Return whether the digest of ``password`` is in the file, as it is or in lower case."""
        spellings = {password, password.lower()}
        return await asyncio.to_thread(lambda: any(map(self._find, spellings)))

    def _find(self, password: str) -> bool:
        # SHA-1 is the form of the published lists. It protects nothing here.
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        wanted = digest.encode()
        low, high = 0, os.fstat(self._descriptor).st_size
        # The line that begins at or before `low` is below `wanted`.
        while high - low > MAX_LINE:
            middle = (low + high) // 2
            partial, _, lines = self._read(2 * MAX_LINE, middle).partition(b"\n")
            if not lines or middle + len(partial) + 1 >= high:
                break
            if lines[:40].upper() < wanted:
                low = middle
            else:
                high = middle
        # Where the loop ended early, no line begins between its last `middle` and `high`.
        window = self._read(5 * MAX_LINE, max(low - MAX_LINE, 0))
        return any(line[:40].upper() == wanted for line in window.splitlines())

    def _read(self, size: int, offset: int) -> bytes:
        return os.pread(self._descriptor, size, offset)  # Threads share the descriptor.


MIN_LENGTH = 8
"""The shortest password of any account (``PASSWORD_MIN_LENGTH``)."""


def load_blocklist(settings: Settings) -> Blocklist | None:
    """Return the list that ``PASSWORD_BLOCKLIST`` names, or ``None`` if it is off.

    Raise ``SettingsError`` if the file cannot be used.
    """
    name = settings.password_blocklist
    if name == "off":
        return None
    if name == "common":
        package = files("service.accounts.passwords")
        return Words((package / "common_passwords.txt").read_text(encoding="utf-8"))
    path = Path(name)
    try:
        if path.exists() and not path.is_file():
            raise _error(path, "is no regular file")
        with path.open("rb") as file:
            first = file.readline(MAX_LINE).strip()
            if _DIGEST.fullmatch(first):
                if not _is_sorted(file, path.stat().st_size):
                    raise _error(path, "is a file of SHA-1 digests that is not sorted")
                return Digests(os.dup(file.fileno()))
        if path.stat().st_size > MAX_PASSWORD_FILE:
            raise _error(path, "has more than 16 MiB of passwords: give sorted SHA-1 digests")
        return Words(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _error(path, "is not in UTF-8") from error


def _is_sorted(file: BinaryIO, size: int) -> bool:
    """Return whether the lines of ``file`` ascend: all of a small file, some of a large one.

    The samples of a large file include its end, where an operator adds lines.
    """
    before, position = b"", 0
    for number in range(SAMPLES):
        start = max(position, (size - SAMPLE) * number // (SAMPLES - 1))
        if start > position:
            file.seek(start)
            file.readline(MAX_LINE)
        else:
            file.seek(position)
        while file.tell() < start + SAMPLE and (line := file.readline(MAX_LINE)):
            line = line.strip().upper()
            if line and (not _DIGEST.fullmatch(line) or line[:40] < before):
                return False
            before = line[:40] or before
        position = file.tell()
    return True


def _error(path: Path, reason: str) -> SettingsError:
    return SettingsError([f"PASSWORD_BLOCKLIST names {path}, which {reason}."])
