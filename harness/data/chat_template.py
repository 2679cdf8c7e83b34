"""A tokenizer's own chat template: rendered, split into segments, and refused if it changes what is to be learnt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "An answer."
_DAY = datetime(2024, 7, 26, tzinfo=UTC)
_TODAY = re.compile(r"""strftime_now\(\s*(["'])((?:(?!\1).)*)\1\s*\)""")
# The name where it asks for a date in another way than that; whether there is such a function does not change.
_OTHER_DAY = re.compile(r"\bstrftime_now\b(?!\s+is\s+(not\s+)?defined)")
_leads: dict[tuple[str, str], str] = {}


class TemplateProblem(ValueError):
    """A conversation that a chat template cannot express as it stands."""


def ask(tokenizer: PreTrainedTokenizerBase, user: str) -> str:
    """The text before an answer to one message, including what the template puts before answers (an empty thought).

    Raises:
        TemplateProblem: the template refuses the message.
    """
    return render(tokenizer, [message("user", user)], ask=True) + lead(tokenizer)


def lead(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes between the generation prompt and the answer, which is given and not learnt; or "".

    Qwen3's writes an empty thought there that its generation prompt lacks; if learnt, it would start every answer.
    """
    key = (str(tokenizer.chat_template), str(tokenizer.special_tokens_map))
    if key not in _leads:
        asked = render(tokenizer, [message("user", "A question.")], ask=True)
        answered = render(tokenizer, [message("user", "A question."), message("assistant", _PROBE)], ask=False)
        start = len(asked)
        found = answered[start : answered.rindex(_PROBE)] if answered.startswith(asked) and _PROBE in answered else ""
        _leads[key] = found if found.strip() else ""
    return _leads[key]


def chat_segments(
    exchanges: Sequence[tuple[str, str]], system: str, tokenizer: PreTrainedTokenizerBase
) -> list[tuple[str, str, bool]]:
    """Context, learnt text and whether the end-of-text token is to follow, for each exchange.

    Raises:
        TemplateProblem: the template refuses the messages, leaves out or cuts a text, or rewrites earlier messages.
    """
    messages = [message("system", system)] if system else []
    found: list[tuple[str, str, bool]] = []
    done, eos = "", str(tokenizer.eos_token)
    for number, (user, assistant) in enumerate(exchanges, start=1):
        which = f"(exchange {number} of {len(exchanges)})"
        messages.append(message("user", user))
        asked = render(tokenizer, messages, ask=True)
        messages.append(message("assistant", assistant))
        answered = render(tokenizer, messages, ask=False)
        if not asked.startswith(done) or not answered.startswith(asked):
            raise TemplateProblem(
                f"this tokenizer's template rewrites earlier messages {which}; set dataset.turns=first or another "
                "dataset.prompt"
            )
        _expect(system if number == 1 else "", asked[len(done) :], f"leaves out the system message {which}")
        _expect(user, asked[len(done) :], f"leaves out or cuts the user's message {which}")
        tail = answered[len(asked) :]
        _expect(assistant, tail, f"leaves out or cuts the answer {which}")
        given = _given(tail, assistant, lead(tokenizer), which)
        tail = tail[len(given) :]
        # What the template puts after its end token (such as a newline) is never generated: it starts the next context.
        learnt = tail[: tail.rindex(eos) + len(eos)] if eos in tail else tail
        found.append((asked[len(done) :] + given, learnt, eos not in tail and number == len(exchanges)))
        done = asked + given + learnt
    return found


def _given(tail: str, answer: str, usual: str, which: str) -> str:
    """The part of `tail` before the answer, which is also part of the generation prompt."""
    found = tail[: max(tail.find(answer.strip()), 0)]
    if not found.strip():
        found = ""
    if found != usual:
        raise TemplateProblem(
            f"this tokenizer's template puts {found!r} before the answer {which} and {usual!r} before others; set "
            "another dataset.prompt"
        )
    return found


def _expect(text: str, rendered: str, fault: str) -> None:
    """Templates may trim and lay out text, but not change a word."""
    if text.strip() not in rendered and "".join(text.split()) not in "".join(rendered.split()):
        raise TemplateProblem(f"this tokenizer's template {fault}: {text[:60]!r}; set another dataset.prompt")


def render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], ask: bool) -> str:
    """The text of a conversation.

    Raises:
        TemplateProblem: the template refuses it (a system message, say).
    """
    try:
        rendered: Any = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=ask, chat_template=template_of(tokenizer)
        )
    except TemplateError as error:
        system = "; set dataset.clean.system=drop" if messages[0]["role"] == "system" else ""
        raise TemplateProblem(f"this tokenizer's template refuses the messages: {error}{system}") from None
    return str(rendered)


def message(role: str, content: str) -> dict[str, str]:
    """One message in the form that chat templates expect."""
    return {"role": role, "content": content}


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's template, in which today is always 26 July 2024, the default of Llama 3's own template.

    With the real date, the same run would train on different tokens tomorrow and be asked with others than it learnt.

    Raises:
        TemplateProblem: it asks for the date in a way that cannot be replaced (its format is a variable).
    """
    fixed = _TODAY.sub(lambda call: repr(_DAY.strftime(call[2])), tokenizer.get_chat_template())
    if found := _OTHER_DAY.search(fixed):
        said = " ".join(fixed[found.start() : found.start() + 40].split())
        raise TemplateProblem(
            f"this tokenizer's template asks for the date in a form that cannot be fixed ({said!r}): tomorrow's tokens "
            "would differ; write the format into the call, strftime_now('%d %b %Y'), or set another dataset.prompt"
        )
    return fixed
