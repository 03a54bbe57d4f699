from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def profile(*overrides: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runners.profile", *overrides]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "COLUMNS": "80"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_sweep_ends_in_one_table_with_the_papers_figures_beside_ours(tmp_path: Path) -> None:
    done = profile("-m", "model=tiny,small,base,large", "dataset=ade,cityscapes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert sum("params" in line and "2×MACs" in line for line in lines) == 1
    cells = [line.split() for line in lines if " / " in line and "×" in line]
    assert cells[1:] == [
        ["tiny", "ade", "512×512", "4,263,414", "6.59", "13.19", "4", "/", "7"],
        ["tiny", "cityscapes", "1024×2048", "4,229,747", "50.54", "101.08", "4", "/", "56*"],
        ["small", "ade", "512×512", "13,932,886", "15.85", "31.71", "14", "/", "16"],
        ["small", "cityscapes", "1024×2048", "13,899,219", "124.62", "249.23", "14", "/", "125"],
        ["base", "ade", "512×512", "27,636,310", "34.90", "69.79", "28", "/", "35"],
        ["base", "cityscapes", "1024×2048", "27,569,107", "275.65", "551.30", "28", "/", "276"],
        ["large", "ade", "512×512", "48,926,550", "69.96", "139.91", "49", "/", "70"],
        ["large", "cityscapes", "1024×2048", "48,792,275", "553.70", "1107.41", "49", "/", "578*"],
    ]
    assert "* tiny on cityscapes and large on cityscapes: no counting convention" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_holds_integers_and_modules_on_request() -> None:
    done = profile("model=tiny", "depth=1", "format=json")
    (record,) = json.loads(done.stdout)
    assert record["params"] == 4_263_414
    assert record["macs"] == 6_592_884_736
    assert record["flops_2x"] == 2 * record["macs"]
    assert record["paper"] == {"params_M": 4, "flops_G": 7, "reproduced": True}
    assert [module["name"] for module in record["modules"]] == ["", "backbone", "decode_head", "(upsample)"]


def test_a_case_of_ones_own_has_no_figure_of_the_paper_beside_it() -> None:
    done = profile("model=tiny", "height=33", "width=1280", "num_classes=7", "format=markdown")
    assert done.returncode == 0, done.stderr
    assert "| tiny  | ade     | 33×1280 | 4,226,663 |" in done.stdout
    assert "no counting convention" not in done.stdout


def test_depth_lists_modules() -> None:
    done = profile("model=tiny", "depth=2")
    assert "decode_head.hamburger" in done.stdout
    assert "backbone.block1.0" not in done.stdout


def test_a_dataset_without_known_classes_asks_for_their_number() -> None:
    done = profile("dataset=folder")
    assert done.returncode == 2
    assert (
        done.stderr == "error: dataset=folder does not tell its classes: give num_classes=K or dataset.classes=FILE\n"
    )
    assert profile("dataset=folder", "num_classes=3").returncode == 0


def test_the_class_table_in_the_root_of_a_dataset_tells_how_many_there_are(tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("names: [ground, leaf, stem, flower]\n")
    done = profile("model=tiny", "dataset=folder", f"dataset.root={tmp_path}", "format=json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["num_classes"] == 4


def test_a_size_of_nothing_is_refused() -> None:
    done = profile("height=0")
    assert done.returncode == 2
    assert "height=0" in done.stderr


def test_a_place_that_hydra_alone_would_use_is_refused(tmp_path: Path) -> None:
    done = profile("-m", "model=tiny,small", f"hydra.sweep.dir={tmp_path / 'x'}")
    assert done.returncode == 2
    assert done.stderr == "error: hydra.sweep is not used: results go to folders of their own below output_dir=DIR\n"


def test_the_memory_of_a_training_step_is_listed_by_its_division() -> None:
    done = profile("model=tiny", "memory=true", "format=json")
    listed = json.loads(done.stdout)[0]["step_memory"]
    whole = {(each["precision"], each["checkpointing"]): each["memory"] for each in listed if each["micro_batch"] == 16}
    assert whole["bf16", True] < whole["bf16", False] < whole["fp32", False]
