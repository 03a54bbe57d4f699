"""The GPU as its driver describes it, asked through the driver's own library."""

from __future__ import annotations

import contextlib
import ctypes
import os
from dataclasses import dataclass

from segnext.errors import BackendError

__all__ = ["Card", "NoDriver", "read_card"]

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE: also what an empty CUDA_VISIBLE_DEVICES gives
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_GIB = 1 << 30
_LEAST_FREE = 2 * _GIB  # the CUDA context with cuBLAS and cuDNN takes about 1 GiB before anything is computed


class NoDriver(BackendError):
    """The machine has no NVIDIA driver: nobody expects a GPU to be used."""


@dataclass(frozen=True)
class Card:
    """The first visible GPU.

    Attributes:
        name: as its maker calls it.
        capability: compute capability, (9, 0) for sm_90.
        memory: bytes in all.
        free: bytes not taken by other programs; None where the driver's management library is missing.
        cuda: newest CUDA release that the driver runs.
    """

    name: str
    capability: tuple[int, int]
    memory: int
    free: int | None
    cuda: tuple[int, int]


def read_card() -> Card:
    """Describes the first GPU that ``CUDA_VISIBLE_DEVICES`` leaves visible.

    Raises:
        BackendError: no driver, a driver that doesn't start, no visible GPU, or one without free memory.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise NoDriver("no NVIDIA driver is installed (libcuda.so.1 not found)") from None
    code = driver.cuInit(0)
    if code and code != _NO_DEVICE:
        raise BackendError(
            f"the NVIDIA driver does not start (cuInit returned {code}{_error_text(driver, code)}): "
            "see whether nvidia-smi works, else restart the machine or reinstall the driver"
        )
    count = ctypes.c_int(0)
    if code == _NO_DEVICE or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        given = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible!r})"
        raise BackendError(f"no CUDA device is visible{given}")
    card = _describe(driver)
    if card.free is not None and card.free < _LEAST_FREE:
        raise BackendError(
            f"{card.name} has only {card.free / _GIB:.1f} of {card.memory / _GIB:.0f} GiB free, at least "
            f"{_LEAST_FREE / _GIB:.0f} are needed: end the programs that nvidia-smi shows, or choose another GPU "
            "by CUDA_VISIBLE_DEVICES"
        )
    return card


def _describe(driver: ctypes.CDLL) -> Card:
    device, version, major, minor = (ctypes.c_int(0) for _ in range(4))
    memory = ctypes.c_size_t(0)
    name = ctypes.create_string_buffer(256)
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGet(ctypes.byref(device), 0)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Card(
        name=name.value.decode(errors="replace"),
        capability=(major.value, minor.value),
        memory=memory.value,
        free=_free_memory(driver, device),
        cuda=(version.value // 1000, version.value % 1000 // 10),
    )


def _error_text(driver: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    known = driver.cuGetErrorString(code, ctypes.byref(text)) == 0 and text.value
    return f", {text.value.decode(errors='replace')}" if known and text.value else ""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _free_memory(driver: ctypes.CDLL, device: ctypes.c_int) -> int | None:
    """Asks the management library by the card's UUID: unlike the driver it needs no context on the card."""
    uuid = (ctypes.c_ubyte * 16)()
    handle, memory = ctypes.c_void_p(), _Memory()
    with contextlib.suppress(OSError, AttributeError):
        if driver.cuDeviceGetUuid_v2(ctypes.byref(uuid), device):
            return None
        digits = bytes(uuid).hex()
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        management = ctypes.CDLL("libnvidia-ml.so.1")
        if management.nvmlInit_v2():
            return None
        try:
            name = f"GPU-{'-'.join(parts)}".encode()
            failed = management.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle))
            if not failed and not management.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
                return int(memory.free)
        finally:
            management.nvmlShutdown()
    return None
