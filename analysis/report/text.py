"""Text of models and configs made safe to show: what a reader cannot see, or what reorders lines, becomes visible."""

from __future__ import annotations

import json
import re
from typing import Any

from markupsafe import Markup

# Marks that change the direction of the text around them; their names are Unicode's abbreviations.
_DIRECTION = {
    0x061C: "ALM", 0x200E: "LRM", 0x200F: "RLM", 0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO",
    0x202E: "RLO", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI",
}  # fmt: skip
_CONTROL = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029]")


def visible(value: object) -> str:
    """Direction marks and control characters as ⟨RLO⟩, ⟨U+0007⟩; everything else unchanged."""
    text = str(value).translate({code: f"⟨{name}⟩" for code, name in _DIRECTION.items()})
    return _CONTROL.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def embedded_json(value: Any) -> Markup:
    """JSON that can stand in a script element: no character of it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
