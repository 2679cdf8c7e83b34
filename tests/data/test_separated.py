"""Tables of text (CSV) are refused with the command that converts them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.data.files import read_rows


def test_a_csv_file_is_refused_with_the_command_that_converts_it(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('instruction,output\n"Say, hi.",hi\n')
    with pytest.raises(ValueError, match="CSV is not read; make JSON lines of it: python -c ") as refused:
        list(read_rows(file))
    command = str(refused.value).partition('python -c "')[2].rstrip('"')
    subprocess.run([sys.executable, "-c", command], check=True)
    assert [row for _, row in read_rows(tmp_path / "rows.jsonl")] == [{"instruction": "Say, hi.", "output": "hi"}]
