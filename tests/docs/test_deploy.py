"""The server of docs/deploy.md answers a real request."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segnext.export.settings import ExportSettings, InputKind, InputSettings, OutputKind, OutputSettings
from tests.export.drawn_model import export

PAGE = Path(__file__).parents[2] / "docs/deploy.md"


def test_the_server_of_the_page_segments_an_image_and_refuses_what_is_none(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "server.py").write_text(code, encoding="utf-8")
    settings = ExportSettings(input=InputSettings(InputKind.image), output=OutputSettings(kind=OutputKind.labels))
    model = export(tmp_path / "labels.onnx", settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "server:app", "--port", str(port), "--log-level", "warning"],
        cwd=tmp_path, env=os.environ | {"MODEL": str(model)},
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}/segment"
        wait_for(port, server)
        body = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 61, 3)).astype(np.uint8)).save(body, "PNG")
        with urllib.request.urlopen(address, data=body.getvalue(), timeout=60) as answer:
            labels = np.asarray(Image.open(answer))
        assert labels.shape == (45, 61)
        assert labels.max() < 3
        with pytest.raises(urllib.error.HTTPError, match="422"):
            urllib.request.urlopen(address, data=b"hello", timeout=60)
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server did not start")
