"""Faults are found by name or by file, and each says what it breaks."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.check.result import Cause
from harness.engine_plugin.faults import FAULTS, find, plant
from harness.engine_plugin.settings import PluginError


class TestRegistry:
    """The shipped faults."""

    @pytest.mark.parametrize("name", FAULTS)
    def test_says_what_it_breaks(self, name: str) -> None:
        """A fault has a sentence about what goes wrong and a cause that a report can name."""
        fault = FAULTS[name]

        assert name == fault.name
        assert fault.summary.endswith(".")
        assert fault.cause in set(Cause) - {Cause.UNKNOWN}

    def test_is_cheap_to_import(self) -> None:
        """The command line lists faults without torch and without vLLM."""
        program = (
            "import harness.engine_plugin.faults, sys; sys.exit(bool({'torch', 'vllm'} & set(sys.modules)))"
        )

        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class TestFind:
    """Finding a fault by what the environment says."""

    def test_by_name(self) -> None:
        """A name is a shipped fault."""
        assert find("lose-weights") is FAULTS["lose-weights"].plant

    def test_in_a_file(self, tmp_path: Path) -> None:
        """A file's function is called, and may import and patch what it likes."""
        file = tmp_path / "my fault.py"
        file.write_text("import json\ndef plant_it():\n    json.planted = True\n", encoding="utf-8")

        plant(f"{file}:plant_it")

        assert __import__("json").__dict__.pop("planted")

    @pytest.mark.parametrize(
        ("name", "complaint"),
        [
            ("lose-wieghts", "lose-wieghts does not exist: .* lose-weights"),
            ("/no/such/file.py:f", "there is no file /no/such/file.py"),
            ("{file}:other", "has no function other"),
            ("{file}:number", "has no function number"),
            ("{text}:f", "is not a Python file"),
        ],
    )
    def test_complains_about_what_is_not_there(self, tmp_path: Path, name: str, complaint: str) -> None:
        """Each mistake is an error that says what is missing."""
        file, text = tmp_path / "fault.py", tmp_path / "fault.txt"
        file.write_text("number = 1\n", encoding="utf-8")
        text.touch()

        with pytest.raises(PluginError, match=complaint):
            find(name.format(file=file, text=text))
