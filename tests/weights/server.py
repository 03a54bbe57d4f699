"""A file server on this machine that can break connections, change its files and refuse."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Site:
    """What the server does, and the requests it got.

    Attributes:
        content: of its one file, whatever the path.
        etag: the file's version, or None to send none.
        break_after: for the next requests, how many bytes to send before the connection breaks.
        statuses: for the next requests, the status to answer instead of the file.
        ranges: the Range header of every request.
    """

    content: bytes
    etag: str | None = '"one"'
    break_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    content_type: str = "application/octet-stream"
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.ranges.append(wanted)
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        total, start = len(site.content), 0
        if wanted and self.headers.get("If-Range") in (None, site.etag):
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(total - start))
        self.send_header("Content-Type", site.content_type)
        if site.etag:
            self.send_header("ETag", site.etag)
        self.end_headers()
        body = site.content[start:]
        if site.break_after:
            body = body[: site.break_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(content: bytes) -> Iterator[Site]:
    """Serves ``content`` at ``site.url`` until the context ends."""
    site = Site(content)
    handler = type("SiteHandler", (Handler,), {"site": site})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}/weights.bin"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
