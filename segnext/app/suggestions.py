"""What somebody means who names a setting that a verb doesn't have: by its meaning, else by its letters."""

from __future__ import annotations

import difflib
from typing import Any

from segnext.app.keys import read_keys

__all__ = ["unknown_key"]

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
