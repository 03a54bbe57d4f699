"""AdamW in NumPy, float64, as in the paper (Loshchilov and Hutter, ICLR 2019, algorithm 2, constant schedule)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from segnext.training.optimizer import Group

Array = NDArray[np.float64]


class NumpyAdamW:
    def __init__(self, parameters: Mapping[str, NDArray[np.floating]], groups: Mapping[str, Group]) -> None:
        self.parameters: dict[str, Array] = {name: p.astype(np.float64) for name, p in parameters.items()}
        self.groups = dict(groups)
        self.first = {name: np.zeros_like(p) for name, p in self.parameters.items()}
        self.second = {name: np.zeros_like(p) for name, p in self.parameters.items()}
        self.steps = 0

    def step(self, gradients: Mapping[str, NDArray[np.floating]], *, lr: float) -> None:
        self.steps += 1
        for name, group in self.groups.items():
            g, rate = gradients[name].astype(np.float64), lr * group.lr_factor
            self.first[name] = 0.9 * self.first[name] + 0.1 * g
            self.second[name] = 0.999 * self.second[name] + 0.001 * g**2
            m_hat = self.first[name] / (1 - 0.9**self.steps)
            v_hat = self.second[name] / (1 - 0.999**self.steps)
            decayed = self.parameters[name] * (1 - rate * group.weight_decay)
            self.parameters[name] = decayed - rate * m_hat / (np.sqrt(v_hat) + 1e-8)
