"""Data that can stand inside a page."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup


def embedded_json(value: Any) -> Markup:
    """JSON that is safe in a script element: it cannot end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
