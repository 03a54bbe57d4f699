"""What all runners share: composing and checking the configuration, and turning errors into exit codes.

Exit codes: 0 done; 1 failed; 2 wrong configuration or data, found before any work; 128 + N stopped by signal N.
"""

from __future__ import annotations

import difflib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import hydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from segnext import backend
from segnext import config as schemas
from segnext.errors import ConfigError, SegNeXtError

__all__ = ["runner"]

T = TypeVar("T")


def runner(
    name: str, schema: type[T], *, finish: Callable[[], None] | None = None, isolated: bool = False
) -> Callable[[Callable[[T], int | None]], Callable[[], None]]:
    """Makes a command of a function: composes conf/NAME.yaml with the command line and passes a checked ``schema``.

    The function returns its exit code (None is 0) and raises SegNeXtError for what the user should read.
    ``finish`` is called once after it, or after all of its calls in a `-m` command. ``isolated``: every job of a `-m`
    command runs in a process of its own (runners/sweep.py).
    """

    def decorate(function: Callable[[T], int | None]) -> Callable[[], None]:
        def main() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through to us instead of Hydra's own report
            schemas.register()
            codes: list[int] = []
            errors: list[SegNeXtError] = []

            def job(composed: DictConfig) -> None:
                try:
                    codes.append(function(schemas.resolve(composed, schema)) or 0)
                except SegNeXtError as error:  # kept from Hydra, which would announce it with a traceback
                    errors.append(error)
                except KeyboardInterrupt:
                    errors.append(_Stopped("stopped by SIGINT"))
                except Exception as error:
                    errors.append(SegNeXtError(_unexpected(error)))

            try:
                if not (isolated and _ran_sweep(name, codes)):
                    hydra.main(version_base="1.3", config_path="pkg://conf", config_name=name)(job)()
            except (HydraException, OmegaConfBaseException) as error:
                errors.append(ConfigError(_explain(error, schema)))
            except SegNeXtError as error:
                errors.append(error)
            if finish is not None:
                finish()
            for message in errors:
                print(f"error: {message}", file=sys.stderr)
            sys.exit(max([*codes, *(error.exit_code for error in errors)], default=0))

        return main

    return decorate


class _Stopped(SegNeXtError):
    exit_code = 128 + signal.SIGINT


def _unexpected(error: Exception) -> str:
    """One line about an error that nobody foresaw; the traceback goes to a file."""
    log = backend.home() / "traceback.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first} (traceback in {log})"


def _ran_sweep(name: str, codes: list[int]) -> bool:
    """Runs the sweep that the command line asks for; False if it asks for a single run."""
    from runners import sweep

    arguments = sweep.requested(name)
    if arguments is None:
        return False
    codes.append(sweep.run(name, arguments))
    return True


def _explain(error: Exception, schema: type[Any]) -> str:
    """Hydra's message in one line, with the nearest option or key where a name is unknown."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"{group}={option} does not exist: {_nearest(option, error.options)}"
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    key = str(getattr(root, "full_key", None) or "")
    if isinstance(root, ConfigAttributeError | ConfigKeyError) and key:
        return schemas.unknown_key(key, schema)
    if isinstance(root, OmegaConfBaseException) and key:
        return f"{key}: {str(root.msg or root).splitlines()[0]}"
    text = " ".join(str(error).split())
    if missing := re.search(r"To append to your default list use (\+\S+)", text):
        return f"{missing[1].lstrip('+')}: nothing of this group is chosen by default, add it by {missing[1]}"
    match = re.match(r"Could not override '([^']+)'", text)
    if match:
        return schemas.unknown_key(match.group(1), schema)
    return text


def _nearest(option: str, options: Sequence[str]) -> str:
    close = difflib.get_close_matches(option, options, n=1)
    listing = ", ".join(sorted(options))
    return f"did you mean {close[0]}? (options: {listing})" if close else f"choose one of {listing}"
