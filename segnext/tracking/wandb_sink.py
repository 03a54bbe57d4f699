"""Weights & Biases as a mirror of the event log.

Without an API key, or when the server cannot be reached, the run is kept offline inside the run folder, for
``wandb sync`` later. The run's id is stored in the run folder (``wandb.json``), so that a resumed run goes on under the
same id. No ``step`` is ever passed: ``iteration`` is a logged field and the x-axis of every curve.

W&B's own variables (WANDB_PROJECT, ENTITY, NAME, RUN_GROUP, NOTES, TAGS, DIR, RUN_ID, JOB_TYPE, MODE, DISABLED) win
over defaults, and settings win over them. Where W&B refuses the key or a name, the run is kept offline.

A resumed run never leaves W&B with pieces. The server says how many rows of the run it has; those are not sent again,
and what it lacks of the event log (all of it, when the new W&B run starts empty as it does offline) is sent first, with
its times. Earlier local pieces move to ``wandb/superseded/``: syncing several pieces of one run can erase history.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segnext.files import read_json, strict_json, write_atomically
from segnext.lazy import LazyModule
from segnext.tracking.dashboard import GROUP_KEY
from segnext.tracking.events import Event, all_events, read_events
from segnext.tracking.images import StoredImage, ValidationImage
from segnext.tracking.run_folder import LOCKED_FOR, RunFolder, State

__all__ = ["Mode", "WandbSink", "replay", "wandb_is_disabled"]

wandb: Any = LazyModule("wandb")  # takes a second

logger = logging.getLogger(__name__)

Mode = Literal["auto", "online", "offline"]


class WandbSink:
    """Mirrors one run to W&B.

    Args:
        folder: the run's folder; everything W&B writes stays inside.
        project, entity, group, tags, notes: as W&B knows them; ``group`` joins the runs of a sweep. What is not given
            is taken from W&B's variables, and the project is ``segnext`` without any.
        labels: more tags, whatever the variables say.
        mode: ``auto`` is online with an API key and offline without one (WANDB_MODE overrules it).
        config: the complete resolved configuration.
        class_names: K names for the masks of validation images.
        git_revision: commit of the source.
        artifact: name the best checkpoint at the end, as an artifact that refers to its file.
        init_timeout, finish_timeout: seconds given to the server at the start and at the end.
    """

    name = "W&B"

    def __init__(
        self,
        folder: RunFolder,
        *,
        config: Mapping[str, Any],
        class_names: Sequence[str],
        project: str | None = None,
        mode: Mode = "auto",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        labels: Sequence[str] = (),
        notes: str | None = None,
        git_revision: str | None = None,
        artifact: bool = False,
        init_timeout: float = 60.0,
        finish_timeout: float = 45.0,
    ) -> None:
        self._folder = folder
        self._mode = mode
        self._labels = {k: name.strip() for k, name in enumerate(class_names)} | {255: "ignored"}
        self._init_timeout = init_timeout
        self._finish_timeout = finish_timeout
        self._git_revision = git_revision
        self._artifact = artifact
        self._settings: dict[str, Any] = {
            "project": project or _variable("PROJECT") or "segnext",
            "entity": entity or _variable("ENTITY") or None,
            "name": self._own("NAME") or folder.name,
            "group": group or _variable("RUN_GROUP") or config.get(GROUP_KEY),
            "tags": [*labels, *(tags or filter(None, _variable("TAGS").split(",")))] or None,
            "notes": notes or _variable("NOTES") or None,
            "job_type": _variable("JOB_TYPE") or "train",
            "config": {**config, "git_revision": git_revision},
        }
        self._run: Any = None
        # The rows of earlier sessions in the order they were sent. Read now: the log grows from here on.
        rows = (event for event in all_events(folder.events) if event.metrics or event.kind == "images")
        self._earlier = list(dict.fromkeys((event.kind, event.iteration) for event in rows))
        self._on_server: set[tuple[str, int]] = set()
        # The service that W&B starts would otherwise write into the user's cache and data folders.
        for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
            os.environ.setdefault(variable, str(folder.path / "wandb"))
        # Its reports about itself wait for the server for 20 s at exit when there is no answer.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

    def start(self, history: Sequence[Event]) -> None:
        self._run, online = self._open()
        run = self._run
        run.define_metric("iteration")
        for pattern in ("train/*", "val/*"):
            run.define_metric(pattern, step_metric="iteration")
        run.define_metric("val/mIoU", step_metric="iteration", summary="max")
        self._remember(online)
        self._set_aside_earlier_pieces(Path(run.settings.sync_dir))
        self._on_server = set(self._earlier[: run.starting_step])
        self._feed(history)
        logger.info("W&B: %s", run.url if online else f"offline, upload with: wandb sync {run.settings.sync_dir}")

    def log(self, event: Event) -> None:
        if (event.kind, event.iteration) in self._on_server:
            return
        # A class that does not occur has no IoU; a loss that is not finite is news.
        metrics = {k: v for k, v in event.metrics.items() if math.isfinite(v) or event.kind == "train"}
        self._run.log({**metrics, "iteration": event.iteration, "_timestamp": event.time})

    def images(self, iteration: int, images: Sequence[ValidationImage]) -> None:
        if ("images", iteration) in self._on_server:
            return
        pictures = [
            wandb.Image(
                image.image,
                caption=image.name,
                masks={
                    part: {"mask_data": np.asarray(label, np.uint8), "class_labels": self._labels}
                    for part, label in (("predictions", image.prediction), ("ground_truth", image.truth))
                },
            )
            for image in images
        ]
        self._run.log({"val/images": pictures, "iteration": iteration})

    def summary(self, figures: Mapping[str, Any]) -> None:
        figures = dict(figures)
        if "macs" in figures:
            figures["flops"] = figures["macs"]  # the paper's name for multiply-accumulates
        self._run.summary.update(json.loads(strict_json(figures)))

    def finish(self, state: State) -> None:
        try:
            if self._artifact:
                self._refer_to_best_checkpoint()
            self._run.finish(exit_code=0 if state == "finished" else 1)
        except Exception as error:
            place = self._run.settings.sync_dir
            raise ConnectionError(
                f"the upload is not complete ({error}), complete it with `wandb sync {place}`"
            ) from error

    def _refer_to_best_checkpoint(self) -> None:
        """W&B learns where the file lies and its checksum; nothing of it is copied or uploaded."""
        best = self._folder.checkpoints / "best.safetensors"
        if best.is_file():
            figures = {key: self._folder.read_metrics().get(key) for key in ("best_mIoU", "best_iteration")}
            artifact = wandb.Artifact(f"{self._run.id}-best", type="model", metadata=figures)
            artifact.add_reference(best.as_uri(), name=best.name)
            self._run.log_artifact(artifact, aliases=["best"])

    def _open(self) -> tuple[Any, bool]:
        """The W&B run, and whether it is online."""
        mode = "offline"
        try:
            wandb.setup(settings=wandb.Settings(silent=True))
            mode = self._resolved_mode()
            return self._init(mode), mode == "online"
        except Exception as error:
            reason = "cannot be reached" if mode == "online" else "cannot be used as it is set up"
            logger.warning("W&B %s (%s): the run is kept offline.", reason, _in_short(error))
            wandb.teardown()  # else the id counts as in use, by the attempt that failed
        try:
            return self._init("offline"), False
        except Exception as error:
            logger.warning("W&B refuses a variable (%s): the run is kept offline without it.", _in_short(error))
            wandb.teardown()
            self._leave_out_what_is_refused()
            return self._init("offline"), False

    def _resolved_mode(self) -> str:
        """``online``, ``offline`` or ``disabled``; raises what W&B raises for a key that cannot be one."""
        if self._mode != "auto":
            return self._mode
        asked = _variable("MODE")
        if asked in ("offline", "online", "disabled"):
            return asked
        return "online" if wandb.login(prompt=False, verify=False) else "offline"

    def _leave_out_what_is_refused(self) -> None:
        for name in ("PROJECT", "ENTITY", "BASE_URL", "TAGS", "RUN_ID", "NAME", "RUN_GROUP"):
            os.environ.pop(f"WANDB_{name}", None)
        self._settings |= {
            "project": re.sub(r"[/\\#?%:]", "-", self._settings["project"])[:128],
            "entity": None,
            "group": (self._settings["group"] or "")[:128] or None,
            "tags": [tag[:64] for tag in self._settings["tags"] or [] if tag] or None,
        }

    def _own(self, name: str) -> str:
        """The variable WANDB_``name`` where it can mean this run alone; empty in a job of a sweep of ours."""
        return "" if os.environ.get(LOCKED_FOR) == str(self._folder.path) else _variable(name)

    def _init(self, mode: str) -> Any:
        # An agent of a W&B sweep has fixed the id already.
        run_id = _variable("RUN_ID") if _variable("SWEEP_ID") else self._run_id()
        return wandb.init(
            **self._settings,
            id=run_id,
            resume="allow" if mode == "online" else None,
            mode=mode,
            dir=_variable("DIR") or str(self._folder.path),
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",  # wrapping standard output would spoil the live display
                init_timeout=self._init_timeout
                if mode == "online"
                else 90.0,  # offline, a busy machine is all there is
                finish_timeout=self._finish_timeout,
                finish_timeout_raises=True,
                disable_git=self._git_revision is None,
                git_commit=(self._git_revision or "").removesuffix("-dirty") or None,
            ),
        )

    @property
    def _record(self) -> Path:
        return self._folder.path / "wandb.json"

    def _run_id(self) -> str:
        """The id in ``wandb.json``, else in WANDB_RUN_ID; else made of the folder's name and its host and path."""
        try:
            return str(read_json(self._record)["id"])
        except (OSError, ValueError, KeyError, TypeError):
            if given := self._own("RUN_ID"):
                return given
            place = f"{socket.gethostname()}:{self._folder.path}:{self._folder.path.stat().st_ino}"
            name = re.sub(r"[^A-Za-z0-9_-]+", "-", self._folder.name).strip("-")[-100:]
            return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"

    def _remember(self, online: bool) -> None:
        run = self._run
        record = {
            "id": run.id,
            "project": run.project,
            "entity": run.entity,
            "mode": "online" if online else "offline",
            "url": run.url if online else None,
        }
        write_atomically(self._record, strict_json(record, indent=2) + "\n")

    def _set_aside_earlier_pieces(self, current: Path) -> None:
        for piece in current.parent.glob(f"*run-*-{self._run.id}"):
            if piece != current and piece.is_dir():
                place = current.parent / "superseded"
                place.mkdir(exist_ok=True)
                piece.rename(place / piece.name)

    def _feed(self, history: Sequence[Event]) -> None:
        """Sends the records of earlier sessions."""
        for event in history:
            if event.kind == "summary":
                self.summary(event.extra.get("figures", {}))
            elif event.kind == "images":
                self.images(event.iteration, _loaded(self._folder, event))
            elif event.metrics:
                self.log(event)


def wandb_is_disabled() -> bool:
    """Whether W&B's variables (WANDB_MODE, WANDB_DISABLED) switch it off."""
    return _variable("MODE") == "disabled" or _variable("DISABLED").lower() in ("true", "1", "yes", "on")


def _variable(name: str) -> str:
    return os.environ.get(f"WANDB_{name}", "")


def _in_short(error: Exception) -> str:
    """The first lines of what W&B says; pydantic's first one is only a count."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3] if "validation error" in str(error)[:40] else lines[:1])[:200]


def _loaded(folder: RunFolder, event: Event) -> list[ValidationImage]:
    images = []
    for record in event.extra.get("images", []):
        try:
            images.append(StoredImage(**record).load(folder))
        except (OSError, TypeError):
            logger.warning("a validation image of iteration %d is missing in %s", event.iteration, folder.images)
    return images


def replay(folder: RunFolder, **settings: Any) -> Path:
    """Writes the whole event log of a run into one fresh offline W&B run and returns its folder for ``wandb sync``.

    For runs that were made with ``tracking=none`` or whose mirror had been switched off. ``settings`` go to
    ``WandbSink`` (``project`` and ``config`` at least).
    """
    names, _ = folder.read_classes()
    sink = WandbSink(folder, class_names=names, mode="offline", **settings)
    sink.start([event for event in read_events(folder.events) if event.kind != "start"])
    sink.summary(folder.read_metrics())
    status = folder.read_status()
    place = Path(sink._run.settings.sync_dir)
    sink.finish(status.state if status is not None else "finished")
    return place
