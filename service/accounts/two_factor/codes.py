"""The codes of a second factor in requests."""

from typing import Any

from service.http.validation import Text


class AnyCode(Text):
    """A validator that accepts every value, so that each wrong one counts as an attempt.

    What cannot be a code becomes ``""``, which is wrong.
    """

    def __call__(self, value: Any) -> str:
        """Return the text, or ``""``."""
        return value if isinstance(value, str) and len(value) <= 100 else ""


ANY_CODE = AnyCode(example="492039")
