"""HTML pages that need no file beside them: rendered templates, with their pictures and colours inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

__all__ = ["css_colour", "data_address", "render"]


def render(package: str, template: str, context: Mapping[str, Any]) -> str:
    """The page that a ``template`` beside the modules of ``segnext.<package>`` makes of ``context``."""
    environment = Environment(
        loader=PackageLoader(f"segnext.{package}", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(context)


def data_address(pixels: NDArray[np.uint8], *, long_side: int | None = None) -> str:
    """An image (H, W, 3) or (H, W) as a data URL, as JPEG; brought down to ``long_side`` pixels where it is larger."""
    image = Image.fromarray(pixels)
    if long_side is not None:
        image.thumbnail((long_side, long_side))
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def css_colour(colour: NDArray[np.uint8]) -> str:
    """A colour of a palette, (3,) RGB, as CSS writes it."""
    return f"rgb({','.join(str(int(part)) for part in colour)})"
