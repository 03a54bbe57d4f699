"""Plain Jittor in the place of every operator of our own: a second implementation of the whole network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest

from segnext.backend import jt
from segnext.kernels import (
    adamw,
    convolution,
    cross_entropy,
    depthwise,
    elementwise,
    gradient_norm,
    mixing,
    multi_scale_depthwise,
    nmf,
    norm,
    residual,
    resize,
)

_PLAIN: dict[Callable[..., Any], Callable[..., Any]] = {
    adamw.adamw_step: adamw.adamw_reference,
    convolution.conv: convolution.conv_reference,
    cross_entropy.cross_entropy: cross_entropy.cross_entropy_reference,
    depthwise.depthwise_conv: depthwise.depthwise_reference,
    elementwise.gelu: lambda x: x * 0.5 * (jt.erf(x / 2**0.5) + 1),
    elementwise.multiply: lambda x, y: x * y,
    elementwise.relu: lambda x: jt.maximum(x, 0.0),
    gradient_norm.gradient_norm: gradient_norm.gradient_norm_reference,
    mixing.mix: mixing.mix_reference,
    multi_scale_depthwise.multi_scale_depthwise: multi_scale_depthwise.multi_scale_depthwise_reference,
    nmf.factorise: nmf.factorise_reference,
    norm.batch_norm: norm.batch_norm_reference,
    norm.fixed_norm: norm.fixed_norm_reference,
    norm.group_norm: norm.group_norm_reference,
    norm.layer_norm: norm.layer_norm_reference,
    residual.add_scaled: residual.add_scaled_reference,
    resize.resize: resize.resize_reference,
}


def use_plain_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until ``monkeypatch`` is undone; the modules that use the operators must have been imported."""
    for module in [module for name, module in sys.modules.items() if name.startswith("segnext.")]:
        for attribute, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value in _PLAIN:
                monkeypatch.setattr(module, attribute, _of_float32(_PLAIN[value]))


def _of_float32(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Without the choice of a type, where the operator offers one."""

    def call(*arguments: Any, dtype: str = "float32", **options: Any) -> Any:
        assert dtype == "float32"
        return plain(*arguments, **options)

    return call
