"""Products of matrices by cuBLAS, in C++: what the operators of CUDA that have any share."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MATRICES", "PRODUCTS_CUDA"]

MATRICES = Path(__file__).with_name("matrices.h").read_text(encoding="utf-8")
PRODUCTS_CUDA = MATRICES + Path(__file__).with_name("product_cuda.h").read_text(encoding="utf-8")
