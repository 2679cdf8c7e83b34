"""Text of models and configs made safe to show: what a reader cannot see, or what reorders lines, becomes visible."""

from __future__ import annotations

import re
import textwrap

# Marks that change the direction of the text around them; their names are Unicode's abbreviations.
_DIRECTION = {
    0x061C: "ALM", 0x200E: "LRM", 0x200F: "RLM", 0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO",
    0x202E: "RLO", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI",
}  # fmt: skip
_NAMES = {code: f"⟨{name}⟩" for code, name in _DIRECTION.items()}
_CONTROL = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029]")
_ELLIPSIS = "…"


def escape_controls(value: object) -> str:
    """Direction marks and control characters as ⟨RLO⟩, ⟨U+0007⟩; everything else unchanged."""
    text = str(value).translate(_NAMES)
    return _CONTROL.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def lines_of(name: str, width: int, most: int = 2) -> str:
    """A name for a figure: visible, in lines of `width` characters, what has no room in `most` of them cut."""
    plain = " ".join(escape_controls(name).split())
    return textwrap.fill(plain, width, max_lines=most, placeholder=_ELLIPSIS, break_on_hyphens=False)
