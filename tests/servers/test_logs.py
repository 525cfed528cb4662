"""What is read from, and kept out of, a server's log."""

from pathlib import Path

import pytest

from harness.servers.logs import diagnose, explain, root_cause, scrub, tail


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a path for a log."""
    return tmp_path / "server.log"


class TestTail:
    """The end of a log."""

    def test_last_lines(self, log: Path) -> None:
        """Only the last lines are returned."""
        log.write_text("".join(f"line {number}\n" for number in range(10)))
        assert tail(log, 2) == "line 8\nline 9"

    def test_starts_where_this_server_started(self, log: Path) -> None:
        """What an earlier server wrote into the same file is left out."""
        log.write_text("earlier\nours\n")
        assert tail(log, 40, start=len("earlier\n")) == "ours"

    def test_survives_bytes_that_are_no_text(self, log: Path) -> None:
        """Output that is not UTF-8 is shown as far as it can be."""
        log.write_bytes(b"ok\n\xff\xfe\n")
        assert tail(log, 40).startswith("ok\n")

    def test_missing_log_is_empty(self, log: Path) -> None:
        """A server that never wrote has an empty log."""
        assert tail(log, 40) == ""


class TestDiagnose:
    """Why a server could not start, as far as its log tells."""

    @pytest.mark.parametrize(
        ("line", "cause"),
        [
            ("OSError: [Errno 98] Address already in use", "port"),
            ("RuntimeError: Failed to initialize NVML: Unknown Error", "NVML"),
            ("RuntimeError: CUDA error: an illegal memory access was encountered", "GPU failed"),
            ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "enough free memory"),
            ("ValueError: Sleep mode is not supported on current platform.", "no sleep mode"),
            ("OSError: [Errno 28] No space left on device", "disk is full"),
            ("api_server.py: error: unrecognized arguments: --enable-foo", "no flag --enable-foo"),
            ("vllm serve: error: argument --dtype: invalid choice: 'x'", "argument --dtype: invalid choice"),
            ("ModuleNotFoundError: No module named 'vllm'", "vLLM is not installed"),
            ("RuntimeError: operator torchvision::nms does not exist", "GPU build of torchvision"),
        ],
    )
    def test_known_failures(self, line: str, cause: str) -> None:
        """Each known failure is named, wherever in the log it stands."""
        diagnosis = diagnose(f"INFO starting\n{line}\nINFO bye\n")
        assert diagnosis is not None
        assert cause in diagnosis.cause
        assert diagnosis.remedy

    def test_unknown_failure(self) -> None:
        """A log that says nothing known is not explained away."""
        assert diagnose("INFO Started server process\nINFO Killed\n") is None

    def test_explanation(self) -> None:
        """What happened is explained by a known failure, else by the last exception, else not at all."""
        known = explain("it exited with code 1", "RuntimeError: Failed to initialize NVML: Unknown Error")
        assert known.cause == "it exited with code 1: the GPU was lost (NVML cannot be initialised)"
        assert (
            explain("it exited", "ValueError: no such layer").cause == "it exited: ValueError: no such layer"
        )
        assert explain("it exited", "bye").cause == "it exited"

    def test_root_cause(self) -> None:
        """The last exception is found behind the prefixes of vLLM's processes and of its logger as well."""
        log = "KeyError: 'a'\n(EngineCore pid=12) ValueError: no such layer\nsome warning\n"
        assert root_cause(log) == "ValueError: no such layer"
        assert (
            root_cause("(Worker pid=1) ERROR 11-29 08:50:30 [core.py:15] ValueError: no") == "ValueError: no"
        )
        assert root_cause("all is well") is None

    def test_a_warning_far_above_explains_nothing(self) -> None:
        """Known words count in the root cause, and where the log ends."""
        log = "WARNING address already in use\n" + "line\n" * 60 + "ValueError: no such layer\n"
        assert explain("it exited", log).cause == "it exited: ValueError: no such layer"


class TestRealLogs:
    """Logs of vLLM 0.32.0 that did not start."""

    def test_an_engine_core_that_fails(self) -> None:
        """The process that serves says only that another one failed; why stands further above."""
        cause = explain("it exited with code 1", real("engine_core_failed")).cause
        assert cause.startswith(
            "it exited with code 1: ValueError: To serve at least one request with the model's max seq len"
        )
        assert "\n" not in cause

    def test_flags_that_contradict_each_other(self) -> None:
        """Of what pydantic refuses, the sentence that says why."""
        assert explain("it exited with code 1", real("heads_not_divisible")).cause == (
            "it exited with code 1: Total number of attention heads (9) must be divisible by tensor parallel "
            "size (2)."
        )

    def test_a_flag_of_another_release(self) -> None:
        """It is the user's to correct: named, and no other flag with it where none is like it."""
        found = explain("it exited with code 2", real("unknown_flag"))
        assert found.cause == (
            "it exited with code 2: this vLLM has no flag --swap-space, nor one of a similar name"
        )
        assert found.refused

    def test_the_nearest_flag(self) -> None:
        """The usage that the parser prints holds every flag of the release."""
        log = real("unknown_flag").replace("arguments: --swap-space", "arguments: --cpu-ofload-gb=4 4")
        assert explain("it exited", log).cause == (
            "it exited: this vLLM has no flag --cpu-ofload-gb (the nearest it has is --cpu-offload-gb)"
        )


def real(name: str) -> str:
    """A log of the folder beside this file."""
    return (Path(__file__).parent / "logs" / f"{name}.log").read_text(encoding="utf-8")


class TestScrub:
    """Secrets in a finished log."""

    def test_secrets_are_replaced(self, log: Path) -> None:
        """Every occurrence is replaced."""
        log.write_text("token hf_12345678, again hf_12345678\n")
        scrub(log, {"hf_12345678"})
        assert log.read_text() == "token ***, again ***\n"

    def test_innocent_log_is_not_rewritten(self, log: Path) -> None:
        """A log without secrets keeps its bytes and its inode's time."""
        log.write_bytes(b"\xff fine\n")
        before = log.stat().st_mtime_ns
        scrub(log, {"hf_12345678"})
        assert (log.read_bytes(), log.stat().st_mtime_ns) == (b"\xff fine\n", before)
