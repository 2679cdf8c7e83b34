"""Makes text from models, configs and other people's files safe to show: invisible characters become visible."""

from __future__ import annotations

import re

# Marks that change the direction of the surrounding text, with Unicode's abbreviations.
_DIRECTION = {
    0x061C: "ALM", 0x200E: "LRM", 0x200F: "RLM", 0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO",
    0x202E: "RLO", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI",
}  # fmt: skip
_NAMES = {code: f"⟨{name}⟩" for code, name in _DIRECTION.items()}
_CONTROL = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029]")
_CONTROL_AND_LINES = re.compile("[\u0000-\u001f\u007f-\u009f\u2028\u2029]")


def escape_controls(value: object, one_line: bool = False) -> str:
    """Show direction marks and control characters, such as terminal escapes, as ⟨RLO⟩, ⟨U+001B⟩; keep the rest.

    one_line: also tabs and line ends.
    """
    text = str(value).translate(_NAMES)
    pattern = _CONTROL_AND_LINES if one_line else _CONTROL
    return pattern.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)
