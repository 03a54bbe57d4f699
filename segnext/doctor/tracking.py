"""Whether runs go to W&B at once or are kept for later."""

from __future__ import annotations

import importlib
import importlib.metadata
import os

from segnext.doctor.finding import Finding, ok, problem, warning

__all__ = ["check_wandb"]


def check_wandb() -> Finding:
    """The mode that ``tracking.wandb=auto`` takes, and the server's answer where that is online."""
    try:
        version = importlib.metadata.version("wandb")
    except importlib.metadata.PackageNotFoundError:
        return problem("W&B", "not installed", "pip install wandb, or train with tracking=none")
    asked = os.environ.get("WANDB_MODE")
    if asked in ("offline", "disabled"):
        return ok("W&B", f"{asked} (WANDB_MODE), version {version}")
    wandb = importlib.import_module("wandb")
    wandb.setup(settings=wandb.Settings(silent=True))
    if not wandb.login(prompt=False, verify=False):
        text = f"offline: no API key, so runs are kept for `wandb sync`; version {version}"
        if asked == "online":
            return warning("W&B", text, "wandb login")
        return ok("W&B", f"{text} (for online: `wandb login`)")
    return _answer(str(wandb.setup().settings.base_url), version)


def _answer(server: str, version: str) -> Finding:
    import requests

    try:
        requests.head(server, timeout=5)
    except requests.RequestException:
        text = f"{server} does not answer: runs are kept offline, each after a minute's wait"
        return warning("W&B", text, "WANDB_MODE=offline saves the wait; `wandb sync` uploads later")
    return ok("W&B", f"online, {server}, version {version}")
