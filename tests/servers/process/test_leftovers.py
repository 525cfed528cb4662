"""What is remembered of servers, and when it may be acted upon."""

from pathlib import Path

import pytest

from harness.errors import StorageError
from harness.servers.owner import Owner, Place
from harness.servers.process.leftovers import Records, ServerRecord

HERE = Place.here()
US = Owner.this_process()
DEAD = US.process._replace(started=US.process.started - 1)


class TestOwner:
    """Whether the harness that started a server is dead."""

    @pytest.mark.parametrize(
        ("owner", "dead"),
        [
            (US, False),
            (Owner(place=HERE, process=DEAD), True),
            (Owner(place=HERE.model_copy(update={"boot": "earlier"}), process=US.process), True),
            (Owner(place=HERE.model_copy(update={"host": "elsewhere"}), process=DEAD), None),
            (Owner(place=HERE.model_copy(update={"namespace": "pid:[1]"}), process=DEAD), None),
        ],
        ids=["itself", "recycled id", "before the reboot", "another machine", "another container"],
    )
    def test_is_dead(self, owner: Owner, *, dead: bool | None) -> None:
        """Dead is said for certain only: never of another machine or container."""
        assert owner.is_dead() is dead


class TestRecords:
    """The folder of records."""

    def test_record_of_another_machine_is_kept(self, tmp_path: Path) -> None:
        """A cache folder shared between machines is swept by each for itself."""
        elsewhere = Owner(place=HERE.model_copy(update={"host": "elsewhere"}), process=DEAD)
        record = ServerRecord.fresh(run_id="run", cell="cell").model_copy(update={"owner": elsewhere})
        records = Records(tmp_path)
        records.write(record)
        assert records.sweep(grace_s=0) == []
        assert len(list(tmp_path.glob("*.json"))) == 1
        records.forget(record)
        assert list(tmp_path.iterdir()) == []

    def test_pids_from_before_a_reboot_mean_nothing(self, tmp_path: Path) -> None:
        """After a reboot a record goes, and no process of today is looked for by its id."""
        before = Owner(place=HERE.model_copy(update={"boot": "earlier"}), process=US.process)
        record = ServerRecord.fresh(run_id="run", cell="cell")
        records = Records(tmp_path)
        records.write(record.model_copy(update={"owner": before, "processes": (US.process,)}))
        assert records.sweep(grace_s=0) == []
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("content", ["", "{}", '{"version": 2}', "not json"])
    def test_unreadable_record_is_left_alone(self, tmp_path: Path, content: str) -> None:
        """A record of another version may belong to a living harness: it is named and kept."""
        path = tmp_path / "0.json"
        path.write_text(content)
        (sentence,) = Records(tmp_path).sweep(grace_s=0)
        assert str(path) in sentence
        assert path.exists()

    def test_marker_cannot_lead_outside(self, tmp_path: Path) -> None:
        """A record cannot name a folder outside the temporary one for removal."""
        record = ServerRecord.fresh(run_id="run", cell="cell")
        text = record.model_dump_json().replace(record.marker, "../../precious")
        (tmp_path / "0.json").write_text(text)
        assert "left" in Records(tmp_path).sweep(grace_s=0)[0]

    def test_unwritable_folder(self, tmp_path: Path) -> None:
        """A server that cannot be remembered must not be started."""
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="cannot remember"):
            Records(tmp_path / "file").write(ServerRecord.fresh(run_id="run", cell="cell"))

    def test_missing_folder_has_nothing_to_sweep(self, tmp_path: Path) -> None:
        """The first run on a machine sweeps nothing."""
        assert Records(tmp_path / "none").sweep(grace_s=0) == []
