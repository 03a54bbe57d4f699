"""Makes the pictures of the documentation from real runs: `make pictures [ARGS=SWEEP]`; needs Chromium and tmux.

docs/images/report.png, report_narrow.png    the report of a search, 1,280 and 400 pixels wide
docs/images/terminal.png                     the live display of a training in a terminal of 80 columns

Without SWEEP, the folder of a finished search, one of twelve short trials on drawn shapes is run first.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI, TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import Browser  # noqa: E402

IMAGES = ROOT / "docs" / "images"
READY = "document.documentElement.dataset.ready"
SEARCH = (
    "+sweep=search model=tiny dataset=shapes schedule=demo schedule.iterations=80 schedule.eval_interval=20 "
    "dataset.val_images=24 hydra.sweeper.n_trials=12 schedule.lr=tag(log,interval(1e-4,1e-2)) tracking=none name=search"
)
TRAINING = "model=tiny dataset=shapes schedule=demo tracking=none"
THEME = TerminalTheme((20, 23, 26), (230, 232, 234), MONOKAI.ansi_colors._colors[:8], MONOKAI.ansi_colors._colors[8:])
TERMINAL = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; background: #14171a; }}
pre {{ margin: 0; padding: 18px 22px; display: inline-block;
  font: 15px/1.35 "DejaVu Sans Mono", monospace; color: #e6e8ea; }}
{stylesheet}</style><pre>{code}</pre>"""


def run(verb: str, *arguments: str, place: Path = ROOT) -> None:
    """Runs a verb in the folder ``place``, from which the paths in its pages are told."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", f"runners.{verb}", *arguments], cwd=place, env=environment, check=True)


def save(png: Path, name: str) -> None:
    """Few colours make few bytes."""
    with Image.open(png) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)
    print(f"{IMAGES / name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB")


def picture_page(page: Path, name: str, *, width: int, height: int, scratch: Path) -> None:
    with Browser(width) as browser:
        browser.open(page.absolute().as_uri(), READY)
        whole = browser.run("document.documentElement.scrollHeight")
        browser.screenshot(scratch / name, height=min(height, whole))
        assert browser.problems == [], browser.problems
    save(scratch / name, name)


def picture_terminal(scratch: Path) -> None:
    """What a terminal of 80 columns shows of a training after its first evaluation."""
    command = shlex.join([sys.executable, "-m", "runners.train", *TRAINING.split(), f"run_folder={scratch / 'run'}"])
    tmux = ["tmux", "-L", "pictures"]
    size = ["-x", "80", "-y", "16"]
    subprocess.run([*tmux, "new-session", "-d", "-s", "run", *size, "-c", str(ROOT), command], check=True)
    screen, end = "", time.monotonic() + 900
    try:
        while time.monotonic() < end:
            done = subprocess.run([*tmux, "capture-pane", "-e", "-p", "-t", "run"], capture_output=True, text=True)
            if done.returncode:
                break
            screen = done.stdout
            if "mIoU" in screen and "left" in screen and "evaluating" not in screen and "150/400" in screen:
                break
            time.sleep(0.1)
    finally:
        subprocess.run([*tmux, "kill-session", "-t", "run"], check=False)
    lines = [line.replace(str(scratch), "outputs") for line in screen.rstrip().splitlines()]
    prompt = f"\x1b[1m$ segnext train {TRAINING}\x1b[0m"
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi("\n".join([prompt, *lines])))
    html = scratch / "terminal.html"
    html.write_text(console.export_html(code_format=TERMINAL, theme=THEME), encoding="utf-8")
    with Browser(800, 600, scale=1.5) as browser:
        browser.open(html.as_uri())
        browser.screenshot(scratch / "terminal.png", height=browser.run("document.querySelector('pre').offsetHeight"))
    save(scratch / "terminal.png", "terminal.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        picture_terminal(scratch)
        if sys.argv[1:]:
            sweep = Path(sys.argv[1])
        else:
            run("train", *SEARCH.split(), f"output_dir={scratch / 'outputs'}")
            sweep = next((scratch / "outputs" / "sweeps").iterdir())
        run("report", str(sweep), f"output={scratch / 'report'}", place=sweep.absolute().parents[2])
        page = scratch / "report" / "index.html"
        picture_page(page, "report.png", width=1280, height=1400, scratch=scratch)
        picture_page(page, "report_narrow.png", width=400, height=1560, scratch=scratch)


if __name__ == "__main__":
    main()
