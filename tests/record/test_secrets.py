"""Keys stay out of everything that is written, printed or listed, and out of the settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.commands import SMALL, environment

from harness.pipeline.plan import make_plan
from harness.record.provenance import code
from harness.record.secrets import redact, refuse_secrets

KEYS = {
    "OPENAI_API_KEY": "sk-proj-0123456789abcdefABCDEF",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQrStUvWxYz",
}


def test_known_forms_and_values_of_the_environment_are_redacted(monkeypatch):
    monkeypatch.setenv("SERVICE_PASSWORD", "correct horse battery")
    text = f"Bearer abcdefghijklmnop123 and {KEYS['OPENAI_API_KEY']}, {KEYS['HF_TOKEN']}: correct horse battery"
    assert redact(text) == "Bearer [secret] and [secret], [secret]: [SERVICE_PASSWORD]"
    plain = "skeleton sk-learn hf_transfer tokens 0.125 key=value harness/secrets.py"
    assert redact(plain) == plain


def test_settings_that_hold_a_key_are_refused_without_showing_it(compose, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEYS["OPENAI_API_KEY"])
    settings = ["judge=openai", f"judge.extra_body={{key: {KEYS['OPENAI_API_KEY']}}}"]
    with pytest.raises(ValueError, match=r"judge\.extra_body\.key: its value is a key or token") as caught:
        make_plan([compose(*SMALL, *settings)])
    assert KEYS["OPENAI_API_KEY"] not in str(caught.value)
    refuse_secrets({"model": {"name": "tiny"}})


def test_no_key_reaches_a_file_the_screen_or_the_list_of_processes(tmp_path):
    """A run that fails with the keys in its error, trained on rows that hold them."""
    rows = [f'{{"instruction": "{i} {" ".join(KEYS.values())}", "input": "", "output": "x"}}' for i in range(60)]
    (tmp_path / "rows.json").write_text("\n".join(rows))
    code = (
        "import harness.models.load, harness.cli\n"
        "def leak(*_, **__): raise ValueError(str(dict(__import__('os').environ)))\n"
        "harness.models.load.load_model = leak\n"
        "import sys; sys.argv = ['harness', *sys.argv[1:]]; harness.cli.main()"
    )
    command = [sys.executable, "-c", code, *SMALL, "dataset=alpaca", f"dataset.path={tmp_path / 'rows.json'}"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(**KEYS), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    listed = Path(f"/proc/{process.pid}/cmdline").read_text() if sys.platform == "linux" else ""
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    assert "[OPENAI_API_KEY]" in err
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert {"failed", "log.txt", "config.yaml", "provenance.json"} <= {path.name for path in files}
    for key in KEYS.values():
        assert key not in out + err + listed
        for path in files:
            assert key.encode() not in path.read_bytes(), path


def test_the_recorded_diff_leaves_out_ignored_and_secret_files(tmp_path):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    git("init")
    names = ("code.py", ".env", "deploy/server.pem", "my_credentials.json", "notes/private.txt", "tokens.py")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before\n")
    git("add", "-f", ".")
    git("commit", "-m", "all")
    (tmp_path / ".gitignore").write_text("notes/\n")
    for name in names:
        (tmp_path / name).write_text(f"after {name} {KEYS['HF_TOKEN']} password = 'horse staple'\n")
    hashed, kept = code(tmp_path), code(tmp_path, keep_diff=True)
    assert set(hashed) == {"commit", "changed", "diff_sha256"}
    assert hashed["changed"] == ["code.py", "tokens.py"]
    assert len(hashed["diff_sha256"]) == 64
    assert [name for name in names if f"after {name}" in kept["diff"]] == ["code.py", "tokens.py"]
    assert KEYS["HF_TOKEN"] not in kept["diff"]
    assert "horse staple" not in kept["diff"]
    (tmp_path / "code.py").write_text("other\n")
    assert code(tmp_path)["diff_sha256"] != hashed["diff_sha256"]


def test_pickled_weights_are_refused(compose, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin is pickled, which runs code"):
        make_plan([compose(*SMALL, "model.architecture=null", f"model.path={tmp_path}")])


@pytest.mark.parametrize("key", ["model.name", "dataset.name", "noise.name", "judge.name", "tracking.project"])
@pytest.mark.parametrize("name", ["../up", "a/b", "..", "a\\\\b"])
def test_names_cannot_leave_the_folder(compose, key, name):
    with pytest.raises(ValueError, match=key):
        compose(*SMALL, f"{key}='{name}'")


FORMS = [
    "AIza" + "Sy0123456789abcdefghijklmnopqrstuvw",
    "xoxb-123456789012-abcdefABCDEF",
    "glpat-abcdefghij0123456789",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.dozjgNryP4J3jVmNHl0w5N",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----",
    "ASIAABCDEFGHIJKLMNOP",
    "gsk_abcdefghij0123456789ABCD",
]


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_many_providers_are_known(form):
    assert redact(f"before {form} after") == "before [secret] after"
    with pytest.raises(ValueError, match=r"judge\.extra_body\.headers\[0\]"):
        refuse_secrets({"judge": {"extra_body": {"headers": [form]}}})


def test_passwords_in_urls_go_and_addresses_stay():
    assert redact("git clone https://me:hunter22@host.org/x") == "git clone https://me:[secret]@host.org/x"
    assert redact("https://h/v1?a=1&api_key=abcdef123&b=2") == "https://h/v1?a=1&api_key=[secret]&b=2"
    plain = "http://127.0.0.1:8000/v1 and user@host.org at 10:30, a:b@c, eyJ.eyJ.x, key = 'value' in a text"
    assert redact(plain) == plain


@pytest.mark.parametrize(
    "name", ["api_key", "apiKey", "x-api-key", "Authorization", "password", "access_token", "secret"]
)
def test_settings_named_like_a_key_are_refused_whatever_they_hold(compose, name):
    with pytest.raises(ValueError, match="is a key or token"):
        make_plan([compose(*SMALL, "judge=endpoint", f"judge.extra_body={{{name}: plainword}}")])


@pytest.mark.parametrize("key", ['quo"te0123456789', "back\\slash0123456789", 'both"\\0123456789/+'])
def test_keys_with_quotes_and_backslashes_are_found_in_every_form(key, monkeypatch):
    import json
    import urllib.parse

    monkeypatch.setenv("ODD_TOKEN", key)
    for text in (key, json.dumps({"a": key}), repr(key), urllib.parse.quote(key, safe="")):
        shown = redact(text)
        assert "[ODD_TOKEN]" in shown
        assert "0123456789" not in shown
    with pytest.raises(ValueError, match=r"^a\.b: its value is a key"):
        refuse_secrets({"a": {"b": f"x {key}"}})


def test_every_default_setting_passes(compose):
    for judge in ("openai", "endpoint", "alpaca_eval", "local_lm", "reward", "similarity", "reference"):
        refuse_secrets(compose(f"judge={judge}").model_dump(mode="json"))
