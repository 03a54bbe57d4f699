"""Downloads survive what networks do, and files are what they were."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import pytest

from segnext.errors import WeightsError
from segnext.weights.zoo import Download, check, fetch, pin
from tests.weights.server import Site


def get(site: Site, folder: Path, **options: object) -> Path:
    waits: list[float] = []
    fetch(Download(site.url, folder / "x.bin"), wait=waits.append, **options)  # type: ignore[arg-type]
    return folder / "x.bin"


def test_a_file_arrives_whole_and_leaves_no_part(site: Site, tmp_path: Path) -> None:
    path = get(site, tmp_path / "made")
    assert path.read_bytes() == site.content
    assert [item.name for item in path.parent.iterdir() if not item.name.startswith(".")] == ["x.bin"]


def test_a_broken_connection_goes_on_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.break_after = [300_000, 400_000]
    assert get(site, tmp_path).read_bytes() == site.content
    assert site.ranges == [None, "bytes=300000-", "bytes=700000-"]


def test_progress_resets_the_count_of_attempts(site: Site, tmp_path: Path) -> None:
    site.break_after = [100_000] * 9
    assert get(site, tmp_path, attempts=2).read_bytes() == site.content


def test_a_later_call_resumes_what_an_earlier_one_left(site: Site, tmp_path: Path) -> None:
    site.break_after = [300_000, 0, 0]
    with pytest.raises(WeightsError, match="no connection after 2 attempts"):
        get(site, tmp_path, attempts=2)
    assert (tmp_path / "x.bin.part").stat().st_size == 300_000
    assert get(site, tmp_path).read_bytes() == site.content
    assert site.ranges[-1] == "bytes=300000-"


def test_a_file_that_changed_on_the_server_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    site.break_after = [300_000, 0]
    with pytest.raises(WeightsError):
        get(site, tmp_path, attempts=1)
    site.content, site.etag = bytes(1_000_000), '"two"'
    assert get(site, tmp_path).read_bytes() == bytes(1_000_000)


def test_a_part_longer_than_the_file_is_thrown_away(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(bytes(2_000_000))
    assert get(site, tmp_path).read_bytes() == site.content


def test_a_part_that_is_already_whole_is_only_renamed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(site.content)
    assert get(site, tmp_path).read_bytes() == site.content
    assert site.ranges == ["bytes=1000000-"]


def test_a_busy_server_is_asked_again_after_longer_and_longer_waits(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 500, 502]
    waits: list[float] = []
    fetch(Download(site.url, tmp_path / "x.bin"), wait=waits.append)
    assert (tmp_path / "x.bin").read_bytes() == site.content
    assert waits == [1, 2, 4]


def test_a_wrong_address_is_not_asked_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [404, 404]
    with pytest.raises(WeightsError, match="404") as caught:
        get(site, tmp_path)
    assert site.url in str(caught.value)
    assert len(site.ranges) == 1
    assert not (tmp_path / "x.bin").exists()


def test_a_web_page_instead_of_the_file_is_told(site: Site, tmp_path: Path) -> None:
    site.content_type = "text/html; charset=utf-8"
    with pytest.raises(WeightsError, match="web page"):
        get(site, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WeightsError, match=r"file/weights cannot be written .*: set SEGNEXT_HOME"):
        get(site, tmp_path / "file" / "weights")


def test_no_server_at_all_ends_after_the_attempts(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no connection after 3 attempts"):
        get(Site(b"", url="http://127.0.0.1:9/x.bin"), tmp_path, attempts=3)


def test_two_at_once_make_one_download(site: Site, tmp_path: Path) -> None:
    threads = [threading.Thread(target=get, args=(site, tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x.bin").read_bytes() == site.content
    assert site.ranges == [None]


def test_a_pinned_file_is_checked_against_its_first_use(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"weights")
    pin(path, source="http://somewhere")
    record = json.loads((tmp_path / "x.bin.sha256.json").read_text())
    assert record == {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7, "source": "http://somewhere"}
    check(path, source="http://somewhere")
    path.write_bytes(b"wEights")
    with pytest.raises(WeightsError, match=r"x\.bin has changed since its first use.*delete it"):
        check(path, source="http://somewhere")


def test_a_file_without_a_record_is_pinned_at_its_first_check(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"weights")
    check(path, source="by hand")
    assert json.loads((tmp_path / "x.bin.sha256.json").read_text())["source"] == "by hand"


def test_a_damaged_record_is_told_with_its_cure(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"weights")
    (tmp_path / "x.bin.sha256.json").write_text("{")
    with pytest.raises(WeightsError, match=r"x\.bin\.sha256\.json is damaged: delete it"):
        check(path, source="")
