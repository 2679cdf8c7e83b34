"""`harness completion SHELL`: the script that completes `harness` and `python -m harness` in bash, zsh or fish.

bash: eval "$(harness completion bash)"; zsh: likewise, behind compinit; fish: harness completion fish | source.
With --words the command answers the script: the possible next words, one per line.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from harness.commands import COMMANDS

# The interpreter typed by the user does the completion, so that its packages are used.
_BASH = r"""
_harness_words() { # command words ... current
  local IFS=$'\n' ask=("$1"); shift
  [ "$1" = -m ] && { ask+=(-m harness); shift 2; }
  COMPREPLY=($(COMP_LINE= "${ask[@]}" completion bash --words "$@" 2>/dev/null))
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace
}
_harness() {
  local line=${COMP_LINE:0:COMP_POINT} typed
  read -ra typed <<< "$line"; [[ $line == *[[:space:]] ]] && typed+=("")
  if [[ ${typed[1]-} == -m && ${typed[2]-} == harness && ${#typed[@]} -gt 3 ]]; then
    _harness_words "${typed[@]}"
  elif [[ ${typed[0]##*/} == harness ]]; then
    _harness_words "${typed[@]}"
  else
    compopt -o default; COMPREPLY=(); return
  fi
  # Bash cuts words at "=" and ":": it wants what stands behind the last of them.
  local current=${typed[-1]} cut; cut=${current%"${current##*[=:]}"}
  COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
complete -F _harness harness python python3
"""
_ZSH = r"""
_harness() {
  local -a ask answers open
  ask=("$words[1]")
  local -a typed; typed=("${(@)words[2,CURRENT]}")
  if [[ "$typed[1]" == -m && "$typed[2]" == harness && ${#typed} -gt 2 ]]; then
    ask+=(-m harness); typed=("${(@)typed[3,-1]}")
  elif [[ "${words[1]:t}" != harness ]]; then
    _files; return
  fi
  answers=("${(@f)$("${ask[@]}" completion zsh --words "${(@)typed}" 2>/dev/null)}")
  open=(${(M)answers:#*[=./]}); answers=(${answers:#*[=./]})
  (( $#open )) && compadd -Q -S '' -- "${(@)open}"
  (( $#answers )) && compadd -Q -- "${(@)answers}"
}
compdef _harness harness python python3
"""
_FISH = r"""
function __harness_words
    set -l typed (commandline -opc) (commandline -ct)
    set -l ask $typed[1]
    set -e typed[1]
    if test "$typed[1]" = -m -a "$typed[2]" = harness
        set ask $ask -m harness
        set -e typed[1..2]
    end
    $ask completion fish --words $typed 2>/dev/null
end
function __harness_is_module
    set -l typed (commandline -opc)
    test (count $typed) -ge 3 -a "$typed[2]" = -m -a "$typed[3]" = harness
end
complete -c harness -f -a '(__harness_words)'
complete -c python -n __harness_is_module -f -a '(__harness_words)'
complete -c python3 -n __harness_is_module -f -a '(__harness_words)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
# Commands that accept settings of a run.
_WITH_SETTINGS = ("run", "data", "doctor")


def main(words: Sequence[str], prog: str) -> int:
    """Print the script, or the words that may come next."""
    if list(words[1:2]) == ["--words"]:
        print("\n".join(next_words(words[2:])))
        return 0
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shell", choices=SCRIPTS)
    print(SCRIPTS[parser.parse_args(words).shell].strip())
    return 0


def next_words(typed: Sequence[str]) -> list[str]:
    """Completions of the last of these words, the one being typed.

    Args:
        typed: the words after `harness`, the last possibly empty.
    """
    *before, current = typed or [""]
    named = [word for word in before if not word.startswith("-")]
    command = named[0] if named and named[0] in COMMANDS else "run"
    commands = [] if named or before else [name for name in COMMANDS if name.startswith(current)]
    if commands and (current == "" or "=" not in current):
        return commands + (_settings(current) if current else [])
    if command in _WITH_SETTINGS:
        return _settings(current)
    if command == "table" and len(named) == 1:
        return [name for name in _tables() if name.startswith(current)]
    if command == "schema" and len(named) == 1:
        from harness.commands.schema import groups

        return [name for name in groups() if name.startswith(current)]
    return [name for name in SCRIPTS if name.startswith(current)] if command == "completion" else _files(current)


def _settings(current: str) -> list[str]:
    """Keys, and the choices of a group or a switch, as Hydra completes them."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra._internal.utils import create_config_search_path

    from harness.config.compose import prepare_hydra
    from harness.config.paths import conf_dir

    prepare_hydra()
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))
    found: list[str] = BashCompletion(loader)._query(config_name="config", line=current)
    return found


def _tables() -> list[str]:
    from importlib import import_module

    layouts, computed = (import_module(f"analysis.tables.{name}") for name in ("layouts", "computed.registry"))
    return [*layouts.LAYOUTS, *computed.COMPUTED, "custom", "list"]


def _files(current: str) -> list[str]:
    """Paths with this prefix; folders end in a slash."""
    from glob import escape, glob
    from os.path import isdir

    return sorted(f"{path}/" if isdir(path) else path for path in glob(f"{escape(current)}*"))
