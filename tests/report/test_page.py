from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segnext.evaluation.metrics import Counts, PerImageCounts
from segnext.report.collect import collect
from segnext.report.page import to_html
from tests.browser import Browser, needs_browser
from tests.report.sweep import make_run, make_sweep


class Reader(HTMLParser):
    """Collects addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found.group(1))
    return data


def make_search(root: Path) -> Path:
    """Five trials in which the rate decides and the seeds' images are the same."""
    for k, rate in enumerate((1e-5, 1e-4, 1e-3, 1e-2, 1e-1)):
        score = 0.5 - 0.1 * abs(k - 2)
        folder = make_run(
            root, f"{k}", scores=(score / 2, score), schedule={"lr": rate, "iterations": 200}, width=k % 2
        )
        folder.evaluation.mkdir()
        counts = [Counts(*(np.array([x, 100]) for x in (int(100 * score) + i, 100, 100))) for i in range(10)]
        names = [f"image {i}" for i in range(10)]
        PerImageCounts.stack(names, counts, num_classes=2).save(folder.evaluation / "per_image.npz")
        (folder.evaluation / "confusion.csv").write_text("label,road,bed\nroad,60,40\nbed,0,0\n")
    return root


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return to_html(collect(make_sweep(tmp_path_factory.mktemp("sweep"))), title="paper & co")


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> str:
    return to_html(collect(make_search(tmp_path_factory.mktemp("search"))), title="search")


def test_the_page_stands_alone(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    outside = [a for a in reader.addresses if not a.startswith(("data:image/", "#"))]
    assert outside == ["https://wandb.example/x"]
    assert not re.search(r"@import|url\(", page)
    assert len(page) < 3_000_000


def test_the_page_shows_scores_spread_and_what_is_missing(page: str) -> None:
    assert "3 of 6 runs finished" in page
    assert "42.0 ± 2.8" in page
    assert "loss is not finite" in page
    assert "<title>paper &amp; co</title>" in page


def test_names_are_escaped(page: str) -> None:
    assert "side &lt;walk&gt;" in page
    assert "side <walk>" not in page


def test_runs_are_ranked_with_the_best_marked(page: str) -> None:
    rows = re.findall(r'<tr(?: class="(best)")?><td class="number" data-sort="\d">(.)</td>', page)
    assert rows == [("best", "★"), ("", "2"), ("", "3"), ("", "4"), ("", "5"), ("", "6")]
    assert "<strong>50.0</strong> % mIoU" in page


def test_the_papers_points_differ_from_the_runs_in_the_cost_chart(page: str) -> None:
    cost = next(f for f in data_of(page)["figures"] if any(trace.get("name") == "paper" for trace in f["data"]))
    paper, runs = (next(t for t in cost["data"] if t["name"] == name) for name in ("paper", "these runs"))
    assert (paper["marker"]["symbol"], runs["marker"].get("symbol", "circle")) == ("diamond-open", "circle")
    assert runs["y"] == [42.0, 50.0]


def test_a_search_names_its_best_settings_and_what_matters(search: str) -> None:
    assert re.search(r"<dt>lr</dt><dd>0.001</dd>", search)
    bars = next(f["data"][0] for f in data_of(search)["figures"] if f["data"][0].get("type") == "bar")
    assert bars["y"][-1] == "lr"
    assert bars["x"][-1] > 60


def test_runs_are_compared_by_draws_of_the_same_images(search: str) -> None:
    compared = data_of(search)["compared"]
    assert len({run["key"] for run in compared}) == 1
    assert {len(run["draws"]) for run in compared} == {1000}


def test_the_best_runs_of_each_dataset_are_shown_closely(tmp_path: Path) -> None:
    for k in range(9):
        make_run(tmp_path, f"a{k}", seed=k, scores=(0.5 + k / 100,))
    make_run(tmp_path, "b", scores=(0.2,), dataset={"name": "camvid"})
    page = to_html(collect(tmp_path), title="x")
    assert re.findall(r'<article id="run:(\w+)"', page) == ["a8", "b", "a7", "a6", "a5", "a4", "a3", "a2"]


def test_a_sweep_without_any_result_has_a_page(tmp_path: Path) -> None:
    make_run(tmp_path, "a", scores=())
    assert "no evaluation yet" in to_html(collect(tmp_path), title="x")


def test_a_missing_sample_image_is_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a")
    shutil.rmtree(folder.images)
    assert "A sample image is missing" in to_html(collect(tmp_path), title="x")


def opened(page: str, place: Path, width: int, *, dark: bool = False) -> Iterator[Browser]:
    file = place / "page.html"
    file.write_text(page, encoding="utf-8")
    with Browser(width, dark=dark) as browser:
        browser.open(file.as_uri(), "document.documentElement.dataset.ready")
        yield browser


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_its_window_and_draws_every_chart_without_errors(width: int, search: str, tmp_path: Path) -> None:
    for browser in opened(search, tmp_path, width, dark=width == 400):
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        visible = "[...document.querySelectorAll('.chart')].filter(chart => chart.offsetParent !== null)"
        assert browser.run(f"{visible}.length") >= 8
        assert browser.run(f"{visible}.every(chart => chart.querySelector('.main-svg'))")
        assert browser.problems == []


@pytest.mark.browser
@needs_browser
def test_on_paper_nothing_is_cut_off(search: str, tmp_path: Path) -> None:
    for browser in opened(search, tmp_path, 794, dark=True):  # A4
        browser.show_as("print")
        browser.wait_for("[...document.querySelectorAll('.scroll')].every(s => s.scrollWidth <= s.clientWidth)", 10)
        assert browser.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert browser.problems == []


@pytest.mark.browser
@needs_browser
def test_best_trial_settings_and_importance_need_no_scrolling_sideways_at_1280_pixels(
    search: str, tmp_path: Path
) -> None:
    for browser in opened(search, tmp_path, 1280):
        assert browser.run("[...document.querySelectorAll('.scroll')].every(s => s.scrollWidth <= s.clientWidth)")


@pytest.mark.browser
@needs_browser
def test_tables_sort_runs_open_and_two_runs_are_compared(search: str, tmp_path: Path) -> None:
    for browser in opened(search, tmp_path, 1280):
        order = "[...document.querySelectorAll('#runs tbody tr')].map(row => row.cells[1].textContent).join('')"
        assert browser.run(order) == "21304"
        browser.run("[...document.querySelectorAll('#runs th button')].find(b => b.textContent === 'lr').click()")
        assert browser.run(order) == "43210"
        browser.run("location.hash = 'run:4'")
        browser.wait_for("!document.getElementById('run:4').hidden && document.getElementById('run:2').hidden")
        browser.run("document.getElementById('compared-b').value = '4'")
        browser.run("document.getElementById('compared-b').dispatchEvent(new Event('change'))")
        assert "A is better: B − A is −" in browser.run("document.getElementById('verdict').textContent")
