"""Every page of a mailed link that a person can see, with values."""

from collections.abc import Mapping

from service.accounts.link_pages import SAMPLES, templates

VARIANTS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    **{name: (name, values) for name, values in SAMPLES.items()},
    "verify_email of an account that was verified before": (
        "verify_email",
        {**SAMPLES["verify_email"], "can_decline": False},
    ),
    "report that keeps the email": ("report", {**SAMPLES["report"], "restores_email": False}),
    **{
        f"reset_password {problem}": (
            "reset_password",
            {**SAMPLES["reset_password"], "problem": problem},
        )
        for problem in ("blank", "too_short", "too_long", "too_common", "rejected", "try_again")
    },
    "try_again later": ("try_again", {"minutes": 0}),
}
"""The name of the page, and its values."""


def render(language: str, name: str, values: Mapping[str, object]) -> str:
    """Return the HTML of the page ``name`` in ``language``."""
    return templates().get_template(f"{language}/{name}.html").render(values, language=language)
