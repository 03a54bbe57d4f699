"""Trains SegNeXt: `python -m runners.train model=tiny dataset=shapes schedule=demo`."""

from __future__ import annotations

from runners.launch import runner
from segnext.config import TrainConfig


@runner("train", TrainConfig)
def main(config: TrainConfig) -> int:
    print(config)
    return 0


if __name__ == "__main__":
    main()
