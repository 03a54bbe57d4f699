"""What is wrong with the settings, in one line that a user can act on: Hydra's errors, and names that nobody knows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from segnext.app.keys import read_keys
from segnext.app.overrides import quoted_override, unreadable

__all__ = ["explain", "unknown_key"]

# What other tools call it → what it is here; of several, the first that the verb reads.
_MEANINGS = {
    **dict.fromkeys(("epochs", "max_epochs", "num_epochs", "max_iters", "iters", "steps"), ("schedule.iterations",)),
    **dict.fromkeys(("max_steps", "total_steps", "num_iterations"), ("schedule.iterations",)),
    **dict.fromkeys(("batch", "bs", "batchsize", "batch_size"), ("schedule.batch_size", "batch", "dataset.batch_size")),
    **dict.fromkeys(("samples_per_gpu", "accumulate", "grad_accum"), ("schedule.micro_batch",)),
    **dict.fromkeys(("accumulation_steps", "gradient_accumulation_steps"), ("schedule.micro_batch",)),
    **dict.fromkeys(("learning_rate", "base_lr", "lr0", "lr"), ("schedule.lr",)),
    **dict.fromkeys(("wd", "decay"), ("schedule.weight_decay",)),
    **dict.fromkeys(("warmup", "warmup_iters", "warmup_steps"), ("schedule.warmup_iterations",)),
    **dict.fromkeys(("val_interval", "eval_every", "val_every", "evaluation_interval"), ("schedule.eval_interval",)),
    **dict.fromkeys(("save_interval", "save_every", "ckpt_interval"), ("schedule.checkpoint_interval",)),
    **dict.fromkeys(("arch", "backbone", "network", "variant"), ("model", "warm_model")),
    **dict.fromkeys(("data", "data_root", "data_dir", "data_path", "dataset_root"), ("dataset.root",)),
    **dict.fromkeys(("crop_size", "img_size", "imgsz", "image_size", "input_size"), ("dataset.crop", "size", "height")),
    **dict.fromkeys(("num_classes", "nc", "class_names", "names"), ("num_classes", "dataset.classes")),
    **dict.fromkeys(("num_workers", "n_workers", "threads"), ("workers",)),
    **dict.fromkeys(("gpus", "num_gpus", "gpu", "nproc_per_node", "world_size", "devices"), ("ranks", "device")),
    **dict.fromkeys(("amp", "fp16", "bf16", "half", "dtype", "mixed_precision"), ("precision", "weights")),
    **dict.fromkeys(("weights", "ckpt", "load_from", "model_path", "init_checkpoint"), ("checkpoint", "input")),
    **dict.fromkeys(("resume_from", "auto_resume"), ("resume",)),
    **dict.fromkeys(("work_dir", "save_dir", "out", "out_dir", "log_dir", "logdir"), ("output_dir", "output.path")),
    **dict.fromkeys(("image", "images", "source", "img"), ("input", "image")),
    **dict.fromkeys(("ms", "multi_scale", "multiscale", "aug_test"), ("dataset.test.tta",)),
    **dict.fromkeys(("random_seed", "manual_seed"), ("seed",)),
    **dict.fromkeys(("wandb_project",), ("tracking.project",)),
    **dict.fromkeys(("drop_path_rate", "droppath"), ("model.drop_path",)),
}


def explain(error: Exception, schema: type[Any], overrides: Sequence[str] = ()) -> str:
    """Hydra's message in one line, with the nearest option or key where a name is unknown.

    An override that Hydra can't parse is shown in the quotes that let it pass.
    """
    settings = [text for text in overrides if not text.startswith("-")]
    if isinstance(error, HydraException) and (culprit := unreadable(settings)) is not None:
        if "=" not in culprit:
            return f"{culprit} is no setting: give KEY=VALUE"
        return (
            f"{culprit} has characters that are special to Hydra: if it is a name, quote it, {quoted_override(culprit)}"
        )
    if comma := re.search(r"Ambiguous value for argument '(.*)'", str(error)):
        key, _, value = comma[1].partition("=")
        return (
            f"{comma[1]} has a comma: if it is a name, quote it, {quoted_override(comma[1])}; if it is a list, write "
            f"'{key}=[{value}]'; if these are several runs, add -m"
        )
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"{group}={option} does not exist: {_nearest(option, error.options)}"
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    key = str(getattr(root, "full_key", None) or "")
    if isinstance(root, ConfigAttributeError | ConfigKeyError) and key:
        return unknown_key(key, schema)
    if isinstance(root, OmegaConfBaseException) and key:
        text = str(root.msg or root).splitlines()[0]
        return f"{key} is a list: write {key}=[…,…]" if "is not a ListConfig" in text else f"{key}: {text}"
    text = " ".join(str(error).split())
    if missing := re.search(r"To append to your default list use (\+\S+)", text):
        return f"{missing[1].lstrip('+')}: nothing of this group is chosen by default, add it by {missing[1]}"
    match = re.match(r"Could not override '([^']+)'", text)
    if match:
        return unknown_key(match.group(1), schema)
    return text


def _nearest(option: str, options: Sequence[str]) -> str:
    close = difflib.get_close_matches(option, options, n=1)
    listing = ", ".join(sorted(options))
    return f"did you mean {close[0]}? (options: {listing})" if close else f"choose one of {listing}"


def unknown_key(full_key: str, schema: type[Any]) -> str:
    """The message for a key that ``schema`` does not have, with what it is called here."""
    known = [key.name for key in read_keys(schema)]
    leaf = full_key.rsplit(".", 1)[-1]
    guesses = (
        *(key for key in _MEANINGS.get(leaf.lower(), ()) if key in known),
        *(key for key in known if key.rsplit(".", 1)[-1] == leaf),
        *difflib.get_close_matches(full_key, known, n=1, cutoff=0.6),
    )
    hint = f"did you mean {guesses[0]}?" if guesses else "`--help` lists all settings"
    return f"unknown setting {full_key}: {hint}"
