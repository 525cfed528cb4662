"""Makes a small image of the toy engine from what this machine has: its Python and what that needs."""

import hashlib
import io
import re
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import docker

from tests.servers import toy_engine

_REPOSITORY = "sleepwake-test-toy"
_NOT_NEEDED = {
    "site-packages",
    "test",
    "idlelib",
    "tkinter",
    "ensurepip",
    "turtledemo",
    "lib2to3",
    "__pycache__",
}
_INTERPRETER = "/usr/bin/python3"


def provide_toy_image(client: docker.DockerClient) -> str:
    """Return the reference of the toy image, imported where the engine does not have it yet."""
    rootfs = _rootfs()
    tag = hashlib.sha256(rootfs).hexdigest()[:12]
    if not client.images.list(f"{_REPOSITORY}:{tag}"):
        for outdated in client.images.list(_REPOSITORY):
            client.images.remove(str(outdated.id), force=True)
        client.api.import_image_from_data(
            rootfs,
            repository=_REPOSITORY,
            tag=tag,
            changes=[
                f'ENTRYPOINT ["{_INTERPRETER}", "-u", "/toy_engine.py"]',
                f"ENV PYTHONHOME={sys.base_prefix} LD_LIBRARY_PATH={_library_folder()}",
                "VOLUME /data",
            ],
        )
    return f"{_REPOSITORY}:{tag}"


def _rootfs() -> bytes:
    interpreter = Path(sys.executable).resolve()
    standard_library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    extensions = [path for path in (standard_library / "lib-dynload").glob("*.so") if _is_wanted(path)]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        _add(archive, interpreter, _INTERPRETER)
        _add(archive, Path(toy_engine.__file__), "/toy_engine.py")
        for library in sorted(_shared_libraries([interpreter, *extensions])):
            _add(archive, library, str(library))
        for source in sorted(standard_library.rglob("*.py")):
            if not _NOT_NEEDED & set(source.relative_to(standard_library).parts):
                _add(archive, source, str(source))
        for extension in sorted(extensions):
            _add(archive, extension, str(extension))
        temporary = tarfile.TarInfo("tmp")
        temporary.type, temporary.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(temporary)
    return content.getvalue()


def _is_wanted(extension: Path) -> bool:
    return not extension.name.startswith(
        ("_test", "_tkinter", "_sqlite3", "_dbm", "_gdbm", "_curses", "readline")
    )


def _shared_libraries(programs: list[Path]) -> set[Path]:
    listing = subprocess.run(
        ["ldd", *map(str, programs)],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {Path(match) for match in re.findall(r"(/\S+\.so\S*) \(0x", listing)}


def _library_folder() -> str:
    return str(sysconfig.get_config_var("LIBDIR"))


def _add(archive: tarfile.TarFile, source: Path, name: str) -> None:
    """Add a file under a fixed owner and time, so that the same files give the same image."""
    member = tarfile.TarInfo(name.lstrip("/"))
    content = source.resolve().read_bytes()
    member.size, member.mode = len(content), 0o755
    archive.addfile(member, io.BytesIO(content))
