from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from segnext.errors import ConfigError
from segnext.report.live import serving
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.tracker import Tracker
from tests.browser import Browser, needs_browser
from tests.report.sweep import NAMES, PALETTE, make_run


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def get(address: str, **headers: str) -> requests.Response:
    return requests.get(address, headers=headers, timeout=20)


def test_the_page_is_renewed_when_a_run_logs_something(address: str, tmp_path: Path) -> None:
    assert "no training run" in get(f"{address}/").text
    make_run(tmp_path, "a", scores=(0.3,))
    before = get(f"{address}/version").text
    assert get(f"{address}/version").text == before
    assert "<strong>30.0</strong> % mIoU" in get(f"{address}/").text
    with Tracker(RunFolder.open(tmp_path / "a"), class_names=NAMES, palette=PALETTE, first_iteration=100) as track:
        track.log(200, {"val/mIoU": 0.4})
    assert get(f"{address}/version").text != before
    assert "<strong>40.0</strong> % mIoU" in get(f"{address}/").text


def test_nothing_but_the_page_is_served_and_to_this_machine_alone(address: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    assert get(f"{address}/secret").status_code == 404
    assert get(f"{address}/../secret").status_code == 404
    assert get(f"{address}/version", Host="elsewhere.example").status_code == 403


def test_a_port_that_is_taken_is_named(address: str, tmp_path: Path) -> None:
    port = int(address.rsplit(":", 1)[1])
    with (
        pytest.raises(ConfigError, match=f"{port}.*choose another port"),
        serving(tmp_path, host="127.0.0.1", port=port),
    ):
        pass


@pytest.mark.browser
@needs_browser
def test_an_open_page_shows_what_a_run_logs(address: str, tmp_path: Path) -> None:
    make_run(tmp_path, "a", scores=(0.3,))
    with Browser(1280) as browser:
        browser.open(address, "document.documentElement.dataset.ready")
        browser.wait_for("document.getElementById('live').textContent === ' · live'")
        make_run(tmp_path, "b", scores=(0.5,))
        browser.wait_for("document.querySelector('.card strong').textContent === '50.0'", 30)
        browser.wait_for("document.querySelector('.chart .main-svg')", 10)
        assert browser.problems == []
