from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from segnext.report.collect import collect
from segnext.report.page import to_html
from tests.report.sweep import make_run, make_sweep

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Reader(HTMLParser):
    """Collects addresses and images."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return to_html(collect(make_sweep(tmp_path_factory.mktemp("sweep"))), title="paper & co")


def test_the_page_stands_alone(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    outside = [a for a in reader.addresses if not a.startswith(("data:image/", "#"))]
    assert outside == ["https://wandb.example/x"]
    assert not re.search(r"@import|url\(", page)


def test_the_page_shows_scores_spread_and_what_is_missing(page: str) -> None:
    assert "3 of 6 runs finished" in page
    assert "42.00 ± 2.83" in page
    assert "loss is not finite" in page
    assert "<title>paper &amp; co</title>" in page


def test_names_are_escaped(page: str) -> None:
    assert "side &lt;walk&gt;" in page
    assert "side <walk>" not in page


def test_every_finished_run_has_curves_and_a_sample(page: str) -> None:
    assert page.count('class="sample"') == 4  # runs 0 to 3
    assert page.count('class="chart"') == 2 + 4
    assert "Nothing has been logged yet." in page


def test_a_sweep_without_any_result_has_a_page(tmp_path: Path) -> None:
    make_run(tmp_path, "a", scores=())
    assert "no evaluation yet" in to_html(collect(tmp_path), title="x")


def test_a_missing_sample_image_is_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a")
    shutil.rmtree(folder.images)
    assert "A sample image is missing" in to_html(collect(tmp_path), title="x")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_the_tables_sort_in_a_real_browser_without_errors(page: str, tmp_path: Path) -> None:
    probe = """<script>
    function order() {
      return Array.from(document.querySelectorAll("#runs tbody tr"), r => r.cells[0].textContent[0]).join("");
    }
    function press(title) {
      Array.from(document.querySelectorAll("#runs th button")).find(b => b.textContent === title).click();
    }
    var seen = [order()];
    for (var title of ["mIoU ss %", "mIoU ss %", "model"]) { press(title); seen.push(order()); }
    location.hash = "2";
    setTimeout(function () {
      seen.push(document.getElementById("2").open);
      seen.push(Array.from(document.images).every(i => i.complete && i.naturalWidth > 0));
      document.body.dataset.seen = seen.join(" ");
    }, 200);
    </script></body>"""
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", probe), encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    seen = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert seen is not None
    # As written; best first; worst first, with unknown scores last both times; by model. Then: a link opens its run,
    # every picture is drawn.
    assert seen.group(1) == "012345 210345 301245 324501 true true"
    assert "CONSOLE" not in done.stderr
