"""Stands between the harness and the Docker Engine, so that a test can take the engine away."""

import socket
from contextlib import suppress
from pathlib import Path
from threading import Thread


class EngineProxy:
    """Forwards a Unix socket to another; :meth:`cut` drops every connection and refuses new ones."""

    def __init__(self, *, path: Path, engine: str) -> None:
        self.url = f"unix://{path}"
        self._path = path
        self._engine = engine
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def restore(self) -> None:
        """Forward from now on."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Drop every connection and refuse new ones, as an engine does that is stopped."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self._path.unlink()
        for each in (listener, *self._connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._connections.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # closed by cut()
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._engine)
                self._connections += [near, far]
                for source, sink in ((near, far), (far, near)):
                    Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
