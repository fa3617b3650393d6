"""Whether this machine has letters for a language; reports name fonts and do not carry them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from functools import cache

PACKAGES: Mapping[str, tuple[str, str]] = {
    "bo": ("Tibetan", "Noto Serif Tibetan (Debian: fonts-noto-core)"),
    "zh": ("Chinese", "Noto Serif CJK (Debian: fonts-noto-cjk)"),
}
"""Language → its letters' name, and a font that has them."""


@cache
def installed_font(language: str) -> str | None:
    """Return the name of a font for a language, "" where there is none, None where it is not known
    (no fontconfig)."""
    try:
        listed = subprocess.run(  # noqa: S603
            ["fc-list", f":lang={language}", "family"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    families = sorted({line.split(",")[0].strip() for line in listed.splitlines() if line.strip()})
    return families[0] if families else ""


def font_warnings(languages: Iterable[str]) -> list[str]:
    """Say of which languages this machine shows boxes instead of letters."""
    return [
        f"This machine has no font for {name} letters, and a page opened here shows boxes; "
        f"install {font}."
        for language, (name, font) in PACKAGES.items()
        if any(each.split("-")[0] == language for each in languages)
        and installed_font(language) == ""
    ]
