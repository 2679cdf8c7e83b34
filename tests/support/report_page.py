"""A sweep as it comes out of real life, its report, and what one does to the report in a browser."""

from __future__ import annotations

import base64
import gzip
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from support.run_folders import write_run

SCRIPT = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'><b>bold</b>"
BIDI = "safe \u202egnp.exe\u202c end \u200f\u2066x\u2069 \u0007"
LONG = "long words " * 4544 + "needle at the end"  # 50,001 characters
LINES = "two \U0001f600" + "\nx" * 647  # 1,299 characters
PREFERENCES = [2.0, 1.0, 1.5, 1.8]


def odd_run(root: Path, config: dict[str, Any], outputs: list[str], preferences: list[float], **options: Any) -> Path:
    """A finished run with these answers, and a judge that wrote to the first; one final number."""
    folder = write_run(root, config, options.pop("final", {"eval/loss": 1.5}), preferences, **options)
    for name, key in (("annotations.json", "output_2"), ("model_outputs.json", "output")):
        rows = json.loads((folder / name).read_text(encoding="utf-8"))
        changed = [{**row, key: output} for row, output in zip(rows, outputs, strict=True)]
        if "annotator" in changed[0]:
            changed[0]["raw_completion"] = "Output (b) <b>is</b> better"
        (folder / name).write_text(json.dumps(changed), encoding="utf-8")
    return folder


class Elements(HTMLParser):
    """Collects elements; a script's text is kept by its id."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = str(dict(attrs).get("id")) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None


def elements(path: Path) -> Elements:
    parser = Elements()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def wait_for(chrome: Any, condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(chrome, 30).until(lambda driver: driver.execute_script(condition))


def texts(chrome: Any, selector: str) -> list[str]:
    return [element.text for element in chrome.find_elements("css selector", selector)]


def type_into(chrome: Any, selector: str, text: str) -> None:
    from selenium.webdriver.common.keys import Keys

    field = chrome.find_element("css selector", selector)
    if field.get_attribute("value") != text:
        field.send_keys(Keys.CONTROL + "a")
        field.send_keys(Keys.BACKSPACE + text)
        # The page waits for a pause in typing before it searches.
        chrome.execute_async_script("setTimeout(arguments[0], 250)")


def choose(chrome: Any, selector: str, part: str) -> None:
    from selenium.webdriver.support.ui import Select

    field = Select(chrome.find_element("css selector", selector))
    (text,) = [option.text for option in field.options if part in option.text]
    field.select_by_visible_text(text)
    wait_for(chrome, "return document.querySelector('#pair').getAttribute('aria-busy') === 'false'")


def pick(chrome: Any, first: str, second: str) -> None:
    """Two runs side by side, nothing searched for or filtered."""
    choose(chrome, "#run-a", first)
    choose(chrome, "#run-b", second)
    for field in ("#search", "#filter"):
        type_into(chrome, field, "")
    choose(chrome, "#verdicts", "all")
    choose(chrome, "#order", "as asked")


def saved(chrome: Any, selector: str) -> str:
    """What a button saves as a file: the text of the blob that it makes."""
    chrome.execute_script(
        "window.blobs = []; const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { window.blobs.push(blob); return make(blob); };"
    )
    chrome.find_element("css selector", selector).send_keys("\n")
    wait_for(chrome, "return window.blobs.length > 0")
    return str(chrome.execute_async_script("window.blobs[0].text().then(arguments[0])"))
