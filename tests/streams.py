"""Senders of live media on loopback: HTTP, TCP and UDP, on ports that the system chooses."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Answers GET with what the test put into `pages`, and notes what was asked for.

    Attributes:
        url: without a slash at its end.
        pages: path → body, or a function that writes the whole answer to the handler.
        hits: paths asked for.
        over: set when the test ends; what stalls waits for it.
    """

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.hits: list[str] = []
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.hits.append(self.path)
                page = outer.pages.get(self.path)
                try:
                    if page is None:
                        self.send_error(404)
                    elif callable(page):
                        page(self)
                    else:
                        outer.begin(self, len(page))
                        self.wfile.write(page)
                except OSError:  # the reader has gone
                    return

            def log_message(self, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @staticmethod
    def begin(handler: BaseHTTPRequestHandler, length: int | None = None) -> None:
        """The head of an answer, with the length if one is promised."""
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()

    def live(self, data: bytes, seconds: float, *, then: str = "end", promised: int | None = None) -> Any:
        """A page that sends `data` over `seconds`, and then ends, stalls, or resets the connection."""

        def send(handler: BaseHTTPRequestHandler) -> None:
            self.begin(handler, promised)
            for part in parts(data, seconds):
                handler.wfile.write(part)
                handler.wfile.flush()
            if then == "stall":
                self.over.wait()

        return send

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def parts(data: bytes, seconds: float, size: int = 7 * 188) -> Iterator[bytes]:
    """`data` in pieces of whole TS packets, spread evenly over `seconds`."""
    begun = time.monotonic()
    for at in range(0, len(data), size):
        wait = begun + seconds * at / len(data) - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        yield data[at : at + size]


@contextmanager
def listener() -> Iterator[str]:
    """HOST:PORT of a socket that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def free_udp_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def datagrams(data: bytes, seconds: float, port: int, repeat: bool = False) -> Iterator[None]:
    """While the block runs: sends `data` over `seconds` to a UDP port, again and again if `repeat`."""
    over = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not over.is_set():
                for part in parts(data, seconds):
                    if over.is_set():
                        return
                    out.sendto(part, ("127.0.0.1", port))
                if not repeat:
                    return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
