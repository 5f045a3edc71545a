"""A proxy between a client and its server on loopback, that cuts a connection in the middle of a COMMIT."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal

Cut = Literal["before", "after", "midway"]
"""Before the server hears of it; after it has answered; once it is sent, whatever becomes of it."""


class Proxy:
    """Passes bytes on. `cut` the next COMMIT, or turn everybody away from then on (`closed`)."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut: Cut | None = None
        self.close_after = False
        self.closed = False
        self.cuts = 0

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener's end
            while True:
                client, _ = self._listener.accept()
                if self.closed:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    client.close()
                    continue
                answered = threading.Event()
                for work in (self._ask, self._answer):
                    threading.Thread(target=work, args=(client, server, answered), daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _ask(self, client: socket.socket, server: socket.socket, answered: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.cut is not None and b"COMMIT\0" in data:
                    how, self.cut, self.cuts = self.cut, None, self.cuts + 1
                    self.closed = self.close_after
                    answered.set()  # from here on no answer goes back
                    if how != "before":
                        server.sendall(data)
                    if how == "after":
                        server.recv(65536, socket.MSG_PEEK)
                    break
                server.sendall(data)
        _shut(client, server)

    def _answer(self, client: socket.socket, server: socket.socket, answered: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while server.recv(1, socket.MSG_PEEK):
                if answered.is_set():
                    return  # what there is to read is for `_ask` to see
                client.sendall(server.recv(65536))
        if not answered.is_set():
            _shut(client, server)


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextlib.contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """A proxy to a port of this machine, for as long as the block lasts."""
    made = Proxy(port)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join()
