"""`-m`: every job of a sweep in a process of its own, whatever Hydra's launcher and sweeper (segnext/sweeps).

With Hydra's basic launcher and sweeper all jobs are composed and checked first and then run by our scheduler. Other
launchers and sweepers call segnext/sweeps/task.py where and when they like, and each call runs its one job.
"""

from __future__ import annotations

from argparse import Namespace

from hydra._internal.utils import get_args_parser
from hydra.types import RunMode
from rich.console import Console

from segnext.errors import ConfigError
from segnext.sweeps.command import composed_without_choices, config_loader, read_command
from segnext.sweeps.ledger import Ledger
from segnext.sweeps.plan import print_plan
from segnext.sweeps.scheduler import SETTLED
from segnext.sweeps.table import SweepDisplay, print_summary
from segnext.sweeps.task import run_by_hydra

__all__ = ["requested", "run"]


def requested(name: str) -> Namespace | None:
    """The command line, parsed, if it asks for a sweep: by `-m`, or by a `+sweep=…` that says so."""
    arguments = get_args_parser().parse_args()
    if arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion:
        return None
    if arguments.multirun:
        return arguments
    if "hydra.mode=RUN" in arguments.overrides:  # a job of a sweep
        return None
    try:
        with config_loader(name, arguments) as loader:
            mode = composed_without_choices(loader, name, arguments, check=False).hydra.mode
    except Exception:  # a single run will say what is wrong
        return None
    return arguments if mode == RunMode.MULTIRUN else None


def run(name: str, arguments: Namespace) -> int:
    """Runs the sweep that ``arguments`` ask for; returns its exit code.

    Raises:
        ConfigError, HydraException, OmegaConfBaseException: the command is wrong; nothing was run.
    """
    console = Console(highlight=False)
    with config_loader(name, arguments) as loader:
        command = read_command(composed_without_choices(loader, name, arguments), name, arguments)
        jobs = command.compose(loader) if command.sweeper == "basic" else None
        if jobs is None:
            command.check_what_is_fixed(loader)
    ledger = Ledger(command.folder)
    if command.settings.dry_run:
        if jobs is None:
            raise ConfigError(f"sweep.dry_run=true: hydra/sweeper={command.sweeper} makes up its jobs one by one")
        print_plan(jobs, ledger=ledger, output_dir=command.output_dir, console=console)
        return 0
    console.print(f"Sweep: {command.folder}", soft_wrap=True)
    to_do = None if jobs is None else [job for job in jobs if ledger.read(job).state not in SETTLED]
    received = None
    if jobs is None or (to_do and command.launcher != "basic"):
        received = run_by_hydra(command)
    elif to_do:
        with SweepDisplay(jobs, console=console) as display:
            received = command.scheduler(jobs, display).run(jobs)
    records = ledger.records() if jobs is None else [ledger.read(job) for job in jobs]
    print_summary(records, console=console)
    if to_do == []:
        console.print(f"Nothing to do: all {len(records)} jobs are done.")
    unfinished = sum(record.state not in SETTLED for record in records)
    if unfinished:
        console.print(f"{unfinished} of {len(records)} jobs are not finished: the same command goes on with them.")
    return 128 + received if received is not None else int(unfinished > 0)
