"""The report served over HTTP and renewed while runs train: a dashboard of all runs below a folder.

The page asks ``/version`` every few seconds and fetches itself anew when the answer has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from segnext.errors import ConfigError
from segnext.report.collect import collect, run_folders
from segnext.report.page import to_html

__all__ = ["serving"]

_LOCAL = ("127.0.0.1", "localhost", "::1")


class _LiveReport:
    """The page of the runs below ``root``, made again when one of them has written something."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()  # one page is made at a time
        self._made: tuple[str, str] = ("", "")

    def version(self) -> str:
        """Changes whenever a run below the folder logs a record or changes its state."""
        marks = []
        for folder in run_folders(self._root):
            for path in (folder.events, folder.status, folder.metrics):
                try:
                    about = path.stat()
                    marks.append(f"{path} {about.st_mtime_ns} {about.st_size}")
                except OSError:
                    continue
        return sha256("\n".join(marks).encode(errors="replace")).hexdigest()[:16]

    def page(self) -> str:
        with self._lock:
            version = self.version()
            if self._made[0] != version:
                self._made = version, self._make()
            return self._made[1]

    def _make(self) -> str:
        try:
            return to_html(collect(self._root), title=self._root.resolve().name, live=True)
        except ConfigError as error:  # nothing has begun yet
            return f'<!DOCTYPE html><meta http-equiv="refresh" content="5"><p>{escape(str(error))}</p>'


@contextmanager
def serving(root: Path, *, host: str, port: int) -> Iterator[ThreadingHTTPServer]:
    """A server of the report over ``root``, bound to ``host`` and ``port`` (0: any that is free).

    Raises:
        ConfigError: there is no such folder, or the address cannot be had.
    """
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder: name one with runs below it, for example outputs")
    report = _LiveReport(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A page of another site that has got this address by its name server must not read the report.
            name = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
            if host in _LOCAL and name not in _LOCAL:
                self.send_error(403)
            elif self.path == "/version":
                self._answer(report.version(), "text/plain")
            elif self.path == "/":
                self._answer(report.page(), "text/html")
            else:
                self.send_error(404)

        def _answer(self, text: str, kind: str) -> None:
            data = text.encode(errors="replace")
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            """The terminal is for people."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise ConfigError(f"cannot serve at {host}:{port} ({error.strerror}): choose another port=NUMBER") from error
    server.daemon_threads = True
    try:
        yield server
    finally:
        server.server_close()
