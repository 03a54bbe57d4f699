"""All checks of the machine, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from segnext.doctor import Finding, State, guarded, ok
from segnext.doctor.machine import (
    check_compiler,
    check_cuda,
    check_folder,
    check_gpu,
    check_memory,
    check_mpi,
    check_processor,
)
from segnext.doctor.packages import check_jittor, check_numpy, check_python, check_requirements, check_wandb
from segnext.doctor.trial import TrialResult, check_cache, check_onednn, check_trial, run_trial
from segnext.files import cache_home

__all__ = ["examine_machine"]

Check = tuple[str, Callable[[], Finding]]


def examine_machine(
    *,
    device: str = "auto",
    output_dir: str | Path = "outputs",
    trial: bool = True,
    announce: Callable[[str], None] | None = None,
) -> Iterator[Finding]:
    """Yields one finding after the other, as soon as it is there; never raises.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``, as for ``backend.start``.
        output_dir: where runs will leave their folders.
        trial: let Jittor compile and run something; after a problem before it, that is left out.
        announce: called with one line before something that takes minutes.
    """
    needed: tuple[Check, ...] = (
        ("Python", check_python),
        ("Packages", check_requirements),
        ("NumPy", check_numpy),
        ("Jittor", check_jittor),
        ("Compiler", check_compiler),
    )
    others: tuple[Check, ...] = (
        ("CPU", check_processor),
        ("Memory", check_memory),
        ("GPU", lambda: check_gpu(device)),
        ("CUDA", check_cuda),
        ("MPI", check_mpi),
        ("W&B", check_wandb),
        ("Outputs", lambda: check_folder("Outputs", output_dir)),
        ("Caches", lambda: check_folder("Caches", cache_home())),
    )
    can_try = True
    for topic, check in needed:
        yield (finding := guarded(topic, check))
        can_try = can_try and finding.state is not State.problem
    for topic, check in others:
        yield guarded(topic, check)
    result: TrialResult | None = None
    if trial and can_try:
        result = run_trial(device, announce=announce)
        yield check_trial(result)
    elif trial:
        yield ok("Trial", "left out because of the problems above")
    yield guarded("oneDNN", lambda: check_onednn(result))
    yield guarded("Cache", lambda: check_cache(result))
