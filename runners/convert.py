"""Converts weights: `python -m runners.convert input=zoo:tiny_ade output=tiny.pth key_format=mmseg`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from segnext.app.runner import runner
from segnext.app.schema import ConvertConfig
from segnext.weights.conversion import convert


@runner("convert", ConvertConfig)
def main(config: ConvertConfig) -> None:
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    console.print(f"converting {config.input}")
    written = convert(
        config.input,
        Path(config.output).expanduser(),
        key_format=config.key_format,
        model=config.model.name,
        num_classes=config.num_classes,
        tell=console.print,
    )
    console.print(written)


if __name__ == "__main__":
    main()
