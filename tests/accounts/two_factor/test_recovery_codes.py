"""The form of recovery codes."""

import pytest

from service.accounts.two_factor.recovery_codes import ALPHABET, digest_of, new_code


def test_code_has_120_random_bits_in_groups_of_four() -> None:
    codes = {new_code() for _ in range(100)}
    assert len(codes) == 100
    for code in codes:
        groups = code.split("-")
        assert [len(group) for group in groups] == [4] * 6
        assert set("".join(groups)) <= set(ALPHABET)
    assert len(ALPHABET) == 32 and not set(ALPHABET) & set("ILOU")


def test_digest_ignores_case_spaces_hyphens_and_similar_letters() -> None:
    code = "0123-4567-89AB-CDEF-GHJK-1110"
    spellings = (code.lower(), code.replace("-", ""), code.replace("-", " "), f" {code}\n")
    for spelling in (*spellings, "O123-4567-89AB-CDEF-GHJK-1ILo"):
        assert digest_of(spelling) == digest_of(code) is not None


@pytest.mark.parametrize("given", ["", "123456", "0123-4567", "0" * 25, "U" * 24, "٠" * 24])
def test_digest_of_other_text_is_none(given: str) -> None:
    assert digest_of(given) is None
