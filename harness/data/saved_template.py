"""The training prompt as a chat template in Jinja, so that whatever loads a saved model prompts it as in training.

Every template renders a conversation like the segments of `harness.data.prompts`: contexts, answers and ends.
"""

from __future__ import annotations

import copy
from typing import Any

from transformers import PreTrainedTokenizerBase

from harness.config.data import Prompt
from harness.data import prompts
from harness.data.chat_template import lead

_ONLY_CHAT = "{{ raise_exception('this model was trained without system messages') }}"


def saved_template(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> str:
    """A template equal to `prompt`, single and multi turn; `add_generation_prompt` gives the prompt of training.

    A user's message may have Alpaca's input as `input` next to `content`. Prompts without a place for a system message
    (alpaca, none) refuse one, as training does.
    """
    if prompt == "chat_template":
        return _with_lead(str(tokenizer.chat_template), lead(tokenizer))
    body = {"alpaca": _alpaca, "vicuna_v1.1": _vicuna, "chatml": _chatml, "none": _none}[prompt]()
    return ("{{ bos_token }}" if _starts(tokenizer) else "") + body


def with_template(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer with the template of the prompt."""
    own = copy.deepcopy(tokenizer)
    own.chat_template = saved_template(prompt, tokenizer)
    return own


def _with_lead(template: str, given: str) -> str:
    if not given:
        return template
    asked = "add_generation_prompt and not (enable_thinking is defined and enable_thinking is false)"
    return f"{template}{{% if {asked} %}}{{{{ {_literal(given)} }}}}{{% endif %}}"


def _alpaca() -> str:
    plain = _filled(prompts.ALPACA, instruction="m.content")
    further = _filled(prompts.ALPACA_WITH_INPUT, instruction="m.content", input="m.input")
    return _turns(f"{{% if m.input %}}{{{{ {further} }}}}{{% else %}}{{{{ {plain} }}}}{{% endif %}}", system=_ONLY_CHAT)


def _none() -> str:
    user = f"{{% if {_USER} %}}{{{{ {_filled(prompts.PLAIN_CONTEXT, user=_USER)} }}}}{{% endif %}}"
    return _turns(user, system=_ONLY_CHAT)


def _vicuna() -> str:
    """The system message precedes the first question; without one, the template's own does."""
    first = _filled(prompts.VICUNA_FIRST, system="ns.system", user=_USER)
    later = _filled(prompts.VICUNA_NEXT, user=_USER)
    answer = _filled(prompts.VICUNA_ANSWER, assistant="m.content")
    user = f"{{{{ ({first}) if ns.first else ({later}) }}}}{{% set ns.first = false %}}"
    start = f"{{% set ns = namespace(first=true, system={_literal(prompts.VICUNA_SYSTEM)}) %}}"
    return start + _turns(user, system="{% set ns.system = m.content or ns.system %}", answer=answer)


def _chatml() -> str:
    message = _filled(prompts.CHATML_MESSAGE, role="m.role", text=f"({_USER} if m.role == 'user' else m.content)")
    opening = _literal(prompts.CHATML_OPEN)
    return (
        f"{{% for m in messages %}}{{{{ {message} }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {opening} }}}}{{% endif %}}"
    )


# Only Alpaca's prompt has a separate place for an input: `harness.data.examples.with_input`.
_USER = "(m.content + '\\n\\n' + m.input if m.input else m.content)"


def _turns(user: str, system: str, answer: str = "m.content") -> str:
    """All messages; the end-of-text token follows every answer."""
    assistant = f"{{{{ {answer} + eos_token }}}}"
    return (
        f"{{% for m in messages %}}{{% if m.role == 'system' %}}{system}{{% elif m.role == 'user' %}}{user}"
        f"{{% else %}}{assistant}{{% endif %}}{{% endfor %}}"
    )


def _filled(template: str, **expressions: str) -> str:
    """A Jinja expression for one of our templates, with an expression in place of each {name}."""
    parts, rest = [], template
    for name, expression in expressions.items():
        head, _, rest = rest.partition(f"{{{name}}}")
        parts += [_literal(head)] * bool(head) + [expression]
    return " + ".join([*parts, *([_literal(rest)] if rest else [])])


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _starts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer adds its start token, which a template must then do itself."""
    ids: Any = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and list(ids)[:1] == [tokenizer.bos_token_id]
