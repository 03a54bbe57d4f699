from __future__ import annotations

import pytest

from segnext.errors import DivergenceError, TrainingError, out_of_memory_explained

MESSAGES = [
    RuntimeError("Execute fused operator failed. Reason: Unable to alloc cuda device memory for size 8589934592"),
    RuntimeError("GPU memory is overflow, please reduce your batch_size or data size!"),
    RuntimeError("CUDA error at x.cc:33 code=2( cudaErrorMemoryAllocation ) cudaMalloc(&ptr, size)"),
    RuntimeError("CUDA error at y.cc:9 code=3( CUBLAS_STATUS_ALLOC_FAILED ) cublasCreate(&handle)"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
]


@pytest.mark.parametrize("error", MESSAGES, ids=lambda error: str(error)[-30:] or "MemoryError")
def test_missing_memory_is_explained_with_what_to_lower(error: Exception) -> None:
    with pytest.raises(TrainingError) as caught, out_of_memory_explained("lower x", TrainingError):
        raise error
    assert str(caught.value) == "out of memory: lower x; the log says more"
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("error", [RuntimeError("Shape not match"), DivergenceError("the loss was nan"), KeyError("x")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, out_of_memory_explained("lower x"):
        raise error
    assert caught.value is error
