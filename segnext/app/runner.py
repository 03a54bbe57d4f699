"""What all runners share: composing and checking the configuration, and turning errors into exit codes.

Exit codes: 0 done; 1 failed; 2 wrong configuration or data, found before any work; 128 + N stopped by signal N.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import segnext
from segnext.app.earlier_settings import with_settings_of_checkpoint, with_settings_of_run
from segnext.app.help import register_help
from segnext.app.keys import key_names
from segnext.app.overrides import modernised, whole_numbers
from segnext.app.resolution import register, resolve
from segnext.app.schema import TrainConfig
from segnext.app.setting_errors import explain
from segnext.app.training import job_settings
from segnext.backend.compiling import failed_operator
from segnext.backend.world import current_world
from segnext.distributed.mpirun import launch, prepare_screen
from segnext.errors import ConfigError, SegNeXtError
from segnext.files import assure_home, cache_home
from segnext.screen import lasting_screen
from segnext.sweeps import launcher

__all__ = ["runner"]

T = TypeVar("T")

_CONF = Path(segnext.__file__).parents[1] / "conf"  # by its place: another package may be called conf
_REFUSALS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
)
_RANK_ZERO_SPEAKS_FIRST = 1.0  # seconds; mpirun ends all other ranks once one has failed


def runner(
    name: str,
    schema: type[T],
    *,
    finish: Callable[[], None] | None = None,
    isolated: bool = False,
    from_checkpoint: bool = False,
    from_run: bool = False,
) -> Callable[[Callable[[T], int | None]], Callable[[], None]]:
    """Makes a command of a function: composes conf/NAME.yaml with the command line and passes a checked ``schema``.

    The function returns its exit code (None is 0) and raises SegNeXtError for what the user should read.
    ``finish`` is called once after it, or after all of its calls in a `-m` command. ``isolated``: every job of a `-m`
    command runs in a process of its own (segnext/sweeps). ``from_checkpoint``: model, dataset and test settings follow
    from ``checkpoint=…`` where the command line does not give them. ``from_run``: so do all settings from ``resume=…``.
    """

    def decorate(function: Callable[[T], int | None]) -> Callable[[], None]:
        def main() -> None:
            lasting_screen()
            assure_home()
            warnings.filterwarnings("ignore", module=r"PIL\.")  # ours name the file
            os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through to us instead of Hydra's own report
            register(name)
            register_help(schema)
            sys.argv[1:], notes = modernised(sys.argv[1:], key_names(schema))
            sys.argv[1:] = whole_numbers(sys.argv[1:], schema)
            for note in notes:
                print(note, file=sys.stderr)
            codes: list[int] = []
            errors: list[SegNeXtError] = []

            def job(composed: DictConfig) -> None:
                with _gathered(errors):  # kept from Hydra, which would announce them with a traceback
                    _refuse_hydra_places(isolated)
                    overrides: Sequence[str] = HydraConfig.get().overrides.task
                    if from_checkpoint or from_run:
                        complete = with_settings_of_checkpoint if from_checkpoint else with_settings_of_run
                        given, overrides = overrides, complete(overrides, schema)
                        if list(overrides) != list(given):
                            composed = hydra.compose(name, overrides=list(overrides))
                    config = resolve(composed, schema, overrides)
                    if HydraConfig.get().mode is RunMode.MULTIRUN and getattr(config, "run_folder", None):
                        raise ConfigError("run_folder is the folder of one run: with -m leave it out")
                    ranks = _ranks_to_start(name, config)
                    code = launch([sys.executable, *sys.orig_argv[1:]], ranks) if ranks else function(config)
                    codes.append(code or 0)

            with _gathered(errors):
                try:
                    if current_world().size > 1:
                        prepare_screen(current_world(), os.environ)
                    if isolated:
                        launcher.register(name, _check_job)
                    hydra.main(version_base="1.3", config_path=str(_CONF), config_name=name)(job)()
                except (HydraException, OmegaConfBaseException) as error:
                    raise ConfigError(explain(error, schema, sys.argv[1:])) from error
            if finish is not None:
                finish()
            _leave(errors, max([*codes, *(error.exit_code for error in errors)], default=0))

        return main

    return decorate


@contextlib.contextmanager
def _gathered(errors: list[SegNeXtError]) -> Iterator[None]:
    """Ends the block on an error and adds it to ``errors``, in one line for its user."""
    try:
        yield
    except SegNeXtError as error:
        errors.append(error)
    except KeyboardInterrupt:
        errors.append(_Stopped("stopped by SIGINT"))
    except Exception as error:
        errors.append(SegNeXtError(_in_one_line(error)))


def _check_job(composed: DictConfig) -> dict[str, Any]:
    return job_settings(resolve(composed, TrainConfig, HydraConfig.get().overrides.task))


def _ranks_to_start(name: str, config: Any) -> int:
    """How many ranks this process is to start instead of doing the work itself; 0 for none.

    Raises:
        ConfigError: the configuration doesn't fit the ranks that have been started already.
    """
    started, wanted = current_world().size, getattr(config, "ranks", None)
    if started == 1:
        return wanted if wanted is not None and wanted > 1 else 0
    if not hasattr(config, "ranks"):
        raise ConfigError(f"{name} is work for one process, and {started} were started: leave mpirun out")
    if wanted not in (None, started):
        raise ConfigError(f"ranks={wanted}, and {started} were started: leave out ranks or mpirun")
    config.ranks = started  # recorded in config.yaml
    config.check()
    return 0


def _leave(errors: Sequence[SegNeXtError], code: int) -> None:
    """Prints what was wrong and ends the process.

    A rank that has failed ends at once: MPI's own end would wait for the others.
    """
    try:
        rank = current_world().rank
        alone = current_world().size == 1
    except SegNeXtError:
        rank, alone = 0, True
    if errors and rank > 0:
        time.sleep(_RANK_ZERO_SPEAKS_FIRST)  # and so for all, when the error is the same everywhere
    for text in dict.fromkeys(map(str, errors)):  # all jobs of a `-m` command may say the same
        print(f"error: {text}" if rank == 0 else f"error: rank {rank}: {text}", file=sys.stderr)
    if code and not alone:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


class _Stopped(SegNeXtError):
    exit_code = 128 + signal.SIGINT


def _in_one_line(error: Exception) -> str:
    """What the system refuses, with the file; of an error that nobody foresaw the first line, the rest in a file."""
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}: free disk space, correct the permissions, or choose another place"
    rank = current_world().rank
    log = cache_home() / (f"traceback-rank-{rank}.log" if rank else "traceback.log")
    first = (str(error).splitlines() or [""])[0]
    text = str(failed_operator(error) or f"{type(error).__name__}: {first}")
    with contextlib.suppress(OSError):  # the disk may be what is full
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
        text += f" (traceback in {log})"
    return text


def _refuse_hydra_places(isolated: bool) -> None:
    """Raises ConfigError when Hydra is asked to put things, or a sweep's jobs, where we would not find them."""
    settings = HydraConfig.get()
    if settings.job.chdir:
        raise ConfigError("hydra.job.chdir is not used: paths count from where the command is started, leave it out")
    if settings.mode is RunMode.RUN and settings.run.dir != ".":
        raise ConfigError(f"hydra.run.dir is not used: name the run's folder by run_folder={settings.run.dir}")
    if any(text.startswith("hydra.sweep.") for text in settings.overrides.hydra):
        raise ConfigError("hydra.sweep is not used: results go to folders of their own below output_dir=DIR")
    if settings.mode is RunMode.MULTIRUN and isolated:
        used = settings.runtime.choices["hydra/launcher"]
        raise ConfigError(f"hydra/launcher={used} can't run jobs: choose isolated, submitit_slurm or submitit_local")
