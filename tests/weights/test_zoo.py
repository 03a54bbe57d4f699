"""Published checkpoints by name, with and without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from segnext.errors import WeightsError
from segnext.models.tensor_shapes import tensor_shapes
from segnext.weights import zoo
from segnext.weights.loading import load_weights
from segnext.weights.saving import save_weights
from segnext.weights.zoo import ZOO, ZooEntry, ZooFile, cache_folder, locate
from tests.weights.fakes import FakeModel, assert_same_bits
from tests.weights.server import Site

NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return tmp_path / "home" / "weights"


def publish(monkeypatch: pytest.MonkeyPatch, *files: ZooFile, backbone: bool = False) -> None:
    """Makes ``zoo:tiny_ade`` mean these files."""
    monkeypatch.setitem(zoo.ZOO, "tiny_ade", ZooEntry(files, "http://page", is_backbone=backbone))


def test_the_zoo_holds_eight_segmentation_checkpoints_and_four_backbones() -> None:
    sizes = ["tiny", "small", "base", "large"]
    assert set(ZOO) == {f"{size}_{data}" for size in sizes for data in ("ade", "cityscapes")} | {
        f"mscan_{size}" for size in sizes
    }
    assert all(entry.files[0].url.startswith("https://") for entry in ZOO.values() if entry.files[0].url)
    assert len({file.name for entry in ZOO.values() for file in entry.files}) == 24
    urls = [file.url for entry in ZOO.values() for file in entry.files if file.url]
    assert len(set(urls)) == len(urls) == 20
    assert [name for name, entry in ZOO.items() if entry.is_backbone] == [f"mscan_{size}" for size in sizes]


def test_names_in_the_zoo_are_those_published() -> None:
    hub = "https://cg.cs.tsinghua.edu.cn/jittor/assets/build/checkpoints/"
    assert ZOO["tiny_ade"].files[0].url == f"{hub}segnext_tiny_512x512_ade_160k.pkl"
    assert ZOO["large_cityscapes"].files[0].url == f"{hub}segnext_large_1024x1024_city_160k.pkl"
    assert ZOO["base_cityscapes"].files[1].url == "https://cloud.tsinghua.edu.cn/f/adb49029f66f426bb046/?dl=1"
    assert ZOO["mscan_small"].files[0].url == f"{hub}mscan_s.pkl"


def test_the_cache_lies_below_segnext_home_or_the_users_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == home
    monkeypatch.delenv("SEGNEXT_HOME")
    assert cache_folder() == Path.home() / ".cache" / "segnext" / "weights"


def test_a_path_is_returned_as_it_is() -> None:
    assert locate("some/file.pth") == Path("some/file.pth")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(WeightsError, match="zoo:huge_ade is not in the zoo: choose one of zoo:tiny_ade, zoo:small_ade"):
        locate("zoo:huge_ade")


def test_a_checkpoint_is_downloaded_once_and_loads(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, model = FakeModel("tiny", num_classes=150, seed=1), FakeModel("tiny", num_classes=150, seed=2)
    site.content = save_weights(source, tmp_path / "x.pkl").read_bytes()
    site.break_after = [100_000]
    publish(monkeypatch, ZooFile("tiny.pkl", site.url))
    report = load_weights(model, "zoo:tiny_ade")
    assert report.path == cache_folder() / "tiny.pkl"
    assert_same_bits(model.arrays(), source.arrays())
    requests = len(site.ranges)
    load_weights(model, "zoo:tiny_ade")
    assert len(site.ranges) == requests


def test_a_file_put_there_by_hand_is_used_without_network(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, ZooFile("tiny.pkl", NOWHERE + "tiny.pkl"), ZooFile("tiny.pth", None))
    source = FakeModel("tiny", num_classes=150, seed=1)
    save_weights(source, home / "tiny.pth")
    model = FakeModel("tiny", num_classes=150, seed=2)
    load_weights(model, "zoo:tiny_ade")
    assert_same_bits(model.arrays(), source.arrays())


def test_a_corrupted_file_in_the_cache_is_an_error_and_not_replaced(
    site: Site, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, ZooFile("tiny.pkl", site.url))
    path = locate("zoo:tiny_ade")
    path.write_bytes(site.content[:-1] + b"?")
    with pytest.raises(WeightsError, match=r"tiny\.pkl has changed since its first use.*delete it to"):
        locate("zoo:tiny_ade")
    path.unlink()
    assert locate("zoo:tiny_ade").read_bytes() == site.content


def test_a_file_downloaded_again_must_be_the_one_of_the_first_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, ZooFile("tiny.pkl", site.url))
    locate("zoo:tiny_ade").unlink()
    site.content = bytes(1000)
    with pytest.raises(WeightsError, match=r"has changed.*if the new one is right, delete tiny\.pkl\.sha256\.json"):
        locate("zoo:tiny_ade")


def test_a_second_address_helps_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, ZooFile("tiny.pkl", NOWHERE + "tiny.pkl"), ZooFile("tiny.pth", site.url))
    assert locate("zoo:tiny_ade") == cache_folder() / "tiny.pth"


def test_a_failed_download_says_what_to_put_where(site: Site, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.statuses = [404]
    publish(monkeypatch, ZooFile("mscan_t.pkl", site.url), ZooFile("mscan_t.pth", None), backbone=True)
    with pytest.raises(WeightsError) as caught:
        locate("zoo:tiny_ade")
    message = str(caught.value)
    for part in ("404", site.url, "http://page", "mscan_t.pkl or mscan_t.pth", str(home), "model.pretrained=null"):
        assert part in message


def test_every_backbone_name_has_its_size() -> None:
    for size in ("tiny", "small", "base", "large"):
        assert tensor_shapes(size, num_classes=1)
        assert ZOO[f"mscan_{size}"].files[0].name == f"mscan_{size[0]}.pkl"
