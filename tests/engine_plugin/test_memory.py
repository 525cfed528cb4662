"""Memory is really given back, nothing beside it is touched, and content comes back as it was."""

import ctypes
import mmap
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.engine_plugin.memory import PAGE, Backup, Mappings, Region, discard, regions, resident_bytes
from harness.engine_plugin.settings import Discard
from harness.engine_plugin.sleeping import SleepingMemory

MIB = 1 << 20


def one_region(tensor: torch.Tensor) -> Region:
    """The region behind a tensor."""
    (region,) = regions([tensor])
    return region


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let every file this process writes be full at ``size`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class TestRegions:
    """Which memory there is."""

    def test_shared_storage_is_one_region(self) -> None:
        """Tied weights and views are released and restored once."""
        whole = torch.ones(1000)

        assert [one_region(whole)] == regions([whole, whole[10:], whole.view(10, 100), whole.data])

    def test_leaves_out_what_has_no_memory(self) -> None:
        """Emptied parameters and tensors on other devices have nothing to give back."""
        assert regions([torch.empty(0), torch.empty(8, device="meta"), torch.eye(3).to_sparse()]) == []

    def test_values_span_the_whole_storage(self) -> None:
        """A region is read in its tensor's dtype from the storage's first byte to its last."""
        whole = torch.arange(100, dtype=torch.bfloat16)

        assert torch.equal(whole, one_region(whole[50:60]).values())


class TestDiscard:
    """Throwing content away and giving pages back."""

    def test_gives_memory_back(self) -> None:
        """Resident memory falls by what was discarded, and the content is gone."""
        tensor = torch.full((64 * MIB,), 7, dtype=torch.uint8)
        before = resident_bytes()

        released = discard(one_region(tensor), Mappings())

        assert before - resident_bytes() > 60 * MIB
        assert 64 * MIB - 2 * PAGE <= released <= 64 * MIB
        assert not tensor.any()

    @given(start=st.integers(0, 3 * PAGE), size=st.integers(1, 4 * PAGE))
    def test_touches_nothing_beside_the_region(self, start: int, size: int) -> None:
        """Wherever a region lies in its pages, all of it is cleared and its neighbours are not."""
        arena = mmap.mmap(-1, 8 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        arena.write(b"\xff" * 8 * PAGE)
        tensor = torch.frombuffer(arena, dtype=torch.uint8, offset=start, count=size)

        discard(one_region(tensor), Mappings())

        assert arena[:start] == b"\xff" * start
        assert arena[start : start + size] == bytes(size)
        assert arena[start + size :] == b"\xff" * (8 * PAGE - start - size)

    def test_does_not_bring_a_files_content_back(self, tmp_path: Path) -> None:
        """In a private mapping of a file the bytes are overwritten; the file stays as it is."""
        file = tmp_path / "weights"
        file.write_bytes(b"\xff" * 4 * PAGE)
        tensor = torch.from_file(str(file), shared=False, size=4 * PAGE, dtype=torch.uint8)

        released = discard(one_region(tensor), Mappings())

        assert released == 0
        assert not tensor.any()
        assert file.read_bytes() == b"\xff" * 4 * PAGE

    def test_overwrites_what_the_kernel_will_not_take_back(self) -> None:
        """Locked pages cannot be given back: their content is gone all the same."""
        arena = mmap.mmap(-1, 2 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        arena.write(b"\xff" * 2 * PAGE)
        tensor = torch.frombuffer(arena, dtype=torch.uint8)
        libc = ctypes.CDLL(None)
        assert libc.mlock(ctypes.c_void_p(tensor.data_ptr()), 2 * PAGE) == 0

        released = discard(one_region(tensor), Mappings())

        assert released == 0
        assert not tensor.any()


class TestMappings:
    """Whose memory it is."""

    MAPS = """\
1000-3000 rw-p 00000000 00:00 0
3000-4000 rw-p 00000000 00:00 0                          [heap]
4000-5000 r--p 00000000 00:00 0
5000-6000 rw-p 00000000 08:01 42                         /lib/with a space.so
6000-7000 rw-s 00000000 00:01 43                         /dev/zero (deleted)
7000-8000 rw-p 00000000 00:00 0
"""

    @pytest.mark.parametrize(
        ("start", "end", "anonymous"),
        [
            (0x1000, 0x4000, True),  # across two mappings
            (0x2800, 0x3001, True),
            (0x3000, 0x5000, False),  # into a read-only one
            (0x5000, 0x6000, False),  # a file
            (0x6000, 0x7000, False),  # shared
            (0x7000, 0x8001, False),  # beyond the end
            (0x0FFF, 0x2000, False),  # before the beginning
        ],
    )
    def test_anonymous(self, start: int, end: int, *, anonymous: bool) -> None:
        """Only private, writable memory without a file behind it may be given back."""
        assert anonymous is Mappings(self.MAPS).anonymous(start, end)

    def test_knows_this_process(self, tmp_path: Path) -> None:
        """Read from the kernel: a tensor is ours to write, one that is shared with others is not."""
        (tmp_path / "shared").write_bytes(bytes(PAGE))
        shared = torch.from_file(str(tmp_path / "shared"), shared=True, size=PAGE, dtype=torch.uint8)

        assert Mappings().writable(one_region(torch.ones(PAGE)))
        assert not Mappings().writable(one_region(shared))


class TestBackup:
    """Keeping content while its memory is gone."""

    @given(contents=st.lists(st.binary(min_size=1, max_size=3 * PAGE), min_size=1, max_size=4))
    def test_restores_what_it_saved(self, contents: list[bytes]) -> None:
        """Any content of any number of regions comes back byte by byte."""
        tensors = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
        backup = Backup()
        for region in regions(tensors):
            backup.save(region)

        for tensor in tensors:
            tensor.fill_(1)
        for region in regions(tensors):
            backup.restore(region)

        assert contents == [bytes(tensor.tolist()) for tensor in tensors]
        backup.close()

    def test_leaves_no_file_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file has no name: not even a killed engine leaves it on the disk."""
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        backup = Backup()

        backup.save(one_region(torch.ones(PAGE)))

        assert list(tmp_path.iterdir()) == []
        backup.close()

    def test_empty_memory_takes_no_disk_space(self) -> None:
        """Zeros are holes in the file, so that a mostly empty KV cache is saved quickly."""
        with file_size_limit(200 * MIB):
            backup = Backup()
            backup.save(one_region(torch.zeros(100 * MIB, dtype=torch.uint8)))

        assert backup.disk_bytes() < MIB
        backup.close()


class TestSleepingMemory:
    """Sleeping and waking up, in any order."""

    def test_resident_memory_falls_and_returns(self) -> None:
        """Kept or not, memory is given back while asleep and taken again at wake-up."""
        kept, lost = (torch.full((32 * MIB,), 7, dtype=torch.uint8) for _ in range(2))
        memory = SleepingMemory(Discard.ZERO)
        awake = resident_bytes()

        memory.sleep({"a": regions([kept]), "b": regions([lost])}, keep=regions([kept]))
        asleep = resident_bytes()
        for tag in memory.tags():
            memory.wake(tag)

        assert awake - asleep > 60 * MIB
        assert abs(resident_bytes() - awake) < 4 * MIB
        assert kept.eq(7).all()
        assert not lost.any()

    @pytest.mark.parametrize(("holds", "value"), [("zero", 0.0), ("poison", 100.0), ("stale", 7.0)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8])
    def test_what_discarded_memory_holds(self, holds: str, value: float, dtype: torch.dtype) -> None:
        """Zeros, a large finite value in the tensor's own dtype (fp8 rounds it), or what was there before."""
        tensor = torch.full((3 * PAGE,), 7.0).to(dtype)
        memory = SleepingMemory(Discard(holds))

        memory.sleep({"kv_cache": regions([tensor])}, keep=[])
        memory.wake("kv_cache")

        assert torch.equal(torch.full((3 * PAGE,), value).to(dtype).float(), tensor.float())

    @pytest.mark.parametrize("holds", list(Discard))
    def test_content_is_gone_while_asleep(self, holds: Discard) -> None:
        """Whatever it will hold later, between sleep and wake-up nothing of the content is there."""
        tensor = torch.ones(3 * PAGE)
        memory = SleepingMemory(holds)

        memory.sleep({"weights": regions([tensor])}, keep=regions([tensor]))

        assert not tensor.any()
        memory.wake("weights")

    def test_second_sleep_keeps_the_first_backup(self) -> None:
        """Sleeping again, even without keeping anything, loses nothing that the first sleep kept."""
        tensor = torch.ones(3 * PAGE)
        memory = SleepingMemory(Discard.ZERO)

        memory.sleep({"weights": regions([tensor])}, keep=regions([tensor]))
        memory.sleep({"weights": regions([tensor])}, keep=[])
        memory.wake("weights")

        assert tensor.eq(1).all()

    def test_waking_what_is_awake_changes_nothing(self) -> None:
        """Neither an unknown tag nor a second wake-up touches memory."""
        tensor = torch.ones(3 * PAGE)
        memory = SleepingMemory(Discard.ZERO)
        memory.sleep({"weights": regions([tensor])}, keep=regions([tensor]))
        memory.wake("weights")
        tensor.fill_(2)

        memory.wake("weights")
        memory.wake("workspace")

        assert tensor.eq(2).all()

    @given(
        steps=st.lists(st.sampled_from(["level 1", "level 2", "wake weights", "wake kv_cache"]), max_size=8)
    )
    def test_any_sequence_of_sleeps_and_wakes(self, steps: list[str]) -> None:
        """After any steps, awake weights are intact unless a level 2 took them, and buffers always are."""
        parameter, buffer, cache = (torch.ones(2 * PAGE) for _ in range(3))
        memory = SleepingMemory(Discard.POISON)
        lost = False

        for step in [*steps, "wake weights", "wake kv_cache"]:
            kind, _, what = step.partition(" ")
            if kind == "wake":
                memory.wake(what)
            else:
                lost |= what == "2" and "weights" not in memory.tags()
                keep = [parameter, buffer] if what == "1" else [buffer]
                memory.sleep(
                    {"weights": regions([parameter, buffer]), "kv_cache": regions([cache])},
                    keep=regions(keep),
                )

        assert parameter.eq(100 if lost else 1).all()
        assert buffer.eq(1).all()
        assert cache.eq(100 if any(step.startswith("level") for step in steps) else 1).all()

    def test_full_disk_leaves_everything_awake(self) -> None:
        """When a backup cannot be written, nothing has been discarded and a later sleep works."""
        cache, weights = torch.ones(3 * PAGE), torch.ones(64 * PAGE)
        memory = SleepingMemory(Discard.STALE)
        tags = {"kv_cache": regions([cache]), "weights": regions([weights])}

        with file_size_limit(16 * PAGE), pytest.raises(OSError, match="File too large"):
            memory.sleep(tags, keep=[])

        assert memory.tags() == ()
        assert cache.eq(1).all()
        assert weights.eq(1).all()
        assert memory.sleep(tags, keep=[]) > 0
        for tag in tags:
            memory.wake(tag)

    def test_leaves_shared_memory_alone(self, tmp_path: Path) -> None:
        """What a file or another process shares is not ours to discard."""
        file = tmp_path / "shared"
        file.write_bytes(b"\xff" * 4 * PAGE)
        tensor = torch.from_file(str(file), shared=True, size=4 * PAGE, dtype=torch.uint8)
        memory = SleepingMemory(Discard.POISON)

        assert memory.sleep({"weights": regions([tensor])}, keep=[]) == 0
        memory.wake("weights")

        assert file.read_bytes() == b"\xff" * 4 * PAGE
