"""What is read from, and kept out of, a server's log."""

from pathlib import Path

import pytest

from harness.servers.logs import diagnose, explain, last_error, scrub, tail


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
            ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "not enough free memory"),
            ("ValueError: Sleep mode is not supported on current platform.", "no sleep mode"),
            ("OSError: [Errno 28] No space left on device", "disk is full"),
            ("api_server.py: error: unrecognized arguments: --enable-foo", "does not accept the flags"),
            ("ModuleNotFoundError: No module named 'vllm'", "vLLM is not installed"),
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

    def test_last_error(self) -> None:
        """The last exception is found behind vLLM's process prefix as well."""
        log = "KeyError: 'a'\n(EngineCore pid=12) ValueError: no such layer\nsome warning\n"
        assert last_error(log) == "ValueError: no such layer"
        assert last_error("all is well") is None


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
