"""A local stand-in for the W&B server: takes runs and their history, and can stop answering."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class WandbServer:
    """Context manager. ``history`` maps run id → row number → row.
    With ``silent_after_init`` it stops answering, connections open, once a run has been accepted.
    """

    def __init__(self, *, silent_after_init: bool = False) -> None:
        self.history: dict[str, dict[int, dict[str, Any]]] = {}
        self.runs: set[str] = set()
        self.silent = False
        self._silent_after_init = silent_after_init
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if server.silent:
                    server._closing.wait()
                    self.close_connection = True
                    return
                answer = json.dumps(server._answer(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                server.silent = server._silent_after_init and bool(server.runs)

            do_GET = do_PUT = do_POST

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> WandbServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/file_stream"):
            self._take_history(path.split("/")[-2], json.loads(body))
            return {}
        if path != "/graphql":
            return {}
        request = json.loads(body)
        given = request.get("variables") or {}
        project = {"id": "p", "name": given.get("project"), "entity": {"id": "e", "name": "someone"}}
        if request["operationName"] == "Viewer":
            data: dict[str, Any] = {"viewer": {"id": "u", "entity": "someone", "username": "someone", "flags": "{}"}}
        elif request["operationName"] == "RunResumeStatus":
            data = {"model": {**project, "bucket": self._known(given["name"])}}
        elif request["operationName"] == "UpsertBucket":
            self.runs.add(given["name"])
            names = {"name": given["name"], "displayName": given["name"], "project": project}
            data = {
                "upsertBucket": {
                    "bucket": {"id": "b", "config": "{}", "historyLineCount": 0, **names},
                    "inserted": True,
                }
            }
        elif request["operationName"] == "CreateRunFiles":
            data = {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": []}}
        else:
            data = {}
        return {"data": data}

    def _known(self, run: str) -> dict[str, Any] | None:
        if run not in self.runs:
            return None
        rows = self.history.get(run, {})
        tail = json.dumps([json.dumps(rows[max(rows)])] if rows else [])
        counts = {"logLineCount": 0, "historyLineCount": len(rows), "eventsLineCount": 0}
        texts = {"summaryMetrics": "{}", "config": "{}", "historyTail": tail, "eventsTail": "[]"}
        return {
            "id": "b",
            "name": run,
            "displayName": run,
            "tags": [],
            "notes": "",
            "wandbConfig": '{"t": 1}',
            **counts,
            **texts,
        }

    def _take_history(self, run: str, message: dict[str, Any]) -> None:
        part = message.get("files", {}).get("wandb-history.jsonl")
        if part is None:
            return
        rows = self.history.setdefault(run, {})
        for number, line in enumerate(part["content"], part["offset"]):
            rows[number] = json.loads(line)
