"""The work of a rejection is the same for every kind of hash."""

from collections import Counter

import bcrypt
import pytest

from service.accounts.passwords import rejection_costs
from service.accounts.passwords.rejection_costs import EXTRA_COST_SECONDS, MAX_KINDS, RejectionCosts
from service.accounts.passwords.schemes import ARGON2ID_KIND, ParsedHash, parse


class Work:
    """Count the work of rejections by the kind of hash."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
        self.done: Counter[str] = Counter()
        self.now = 0.0
        monkeypatch.setattr(rejection_costs, "time", self)
        monkeypatch.setattr(bcrypt, "hashpw", self._hash)
        self.costs = RejectionCosts(4, algorithm)
        for kind, (_, until) in dict(self.costs._kinds).items():
            self.costs._kinds[kind] = (self.hash(kind), until)

    def monotonic(self) -> float:
        return self.now

    def _hash(self, _: bytes, salt: bytes) -> bytes:
        self.done["bcrypt"] += 2 ** int(salt[4:6])
        return b""

    def hash(self, kind: str) -> ParsedHash:
        """Return a hash of ``kind`` whose verification is counted."""

        def verify(_: bytes) -> bool:
            name, *rest = kind.split()
            if name == "bcrypt":
                self.done["bcrypt"] += 2 ** int(rest[0])
            else:
                self.done[kind] += 1
            return False

        return ParsedHash(kind, verify)

    def reject(self, kind: str) -> Counter[str]:
        """Return all the work of the rejection of a hash of ``kind``."""
        self.done.clear()
        rejected = self.hash(kind)
        rejected.verify(b"wrong")
        self.costs.add_work(rejected, b"wrong")
        return Counter(self.done)


@pytest.mark.parametrize(
    ("algorithm", "current", "other"),
    [("bcrypt", "bcrypt 4", ARGON2ID_KIND), ("argon2id", ARGON2ID_KIND, "bcrypt 4")],
)
def test_rejection_does_the_work_of_both_algorithms_after_one_of_each(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, current: str, other: str
) -> None:
    work = Work(monkeypatch, algorithm)
    alone = work.reject(current)
    assert len(alone) == 1
    first = work.reject(other)
    assert first == {"bcrypt": 2**4, ARGON2ID_KIND: 1}
    for kind in (current, other, current):
        assert work.reject(kind) == first
    work.now += EXTRA_COST_SECONDS + 1
    assert work.reject(current) == alone


def test_rejection_does_the_work_of_a_bounded_number_of_kinds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Work(monkeypatch, "bcrypt")
    for number in range(20):
        work.reject(f"pbkdf2 sha256 {number}")
    assert sum(work.reject("bcrypt 4").values()) == 2**4 + MAX_KINDS


def test_current_kind_is_a_real_hash() -> None:
    costs = RejectionCosts(4, "argon2id")
    (kept,) = costs._kinds.values()
    assert not kept[0].verify(b"x")
    assert kept[0].kind == ARGON2ID_KIND == parse(f"{ARGON2ID_KIND}${'A' * 22}${'A' * 43}").kind
