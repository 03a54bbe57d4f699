"""The W&B dashboard over a project's runs, as code (extra ``dashboard``): built offline, published on request.

It reads the names that ``wandb_sink`` writes: summary ``flops`` (multiply-accumulates), ``best_mIoU``, ``mIoU``; curves
``val/mIoU``, ``train/loss``, ``train/images_per_second`` over ``iteration``; configuration ``model.name``,
``dataset.name``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segnext.errors import ConfigError, SegNeXtError

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

__all__ = ["build", "publish"]

NAME = "SegNeXt"


def build(entity: str, project: str) -> Workspace:
    """The workspace: mIoU against FLOPs, best mIoU, curves by model and by run; needs no account and no network.

    Raises:
        ConfigError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise ConfigError("the dashboard needs wandb-workspaces: pip install '.[dashboard]'") from error

    def curve(metric: str, title: str, **options: Any) -> Any:
        return panels.LinePlot(title=title, x="iteration", y=[metric], title_x="iteration", **options)

    by_model: dict[str, Any] = {
        "groupby": "config.model.name",
        "groupby_aggfunc": "mean",
        "groupby_rangefunc": "stddev",
    }
    comparison = [
        panels.ScatterPlot(
            title="best mIoU (fraction) against FLOPs (multiply-accumulates)",
            x=panels.SummaryMetric("flops"),
            y=panels.SummaryMetric("best_mIoU"),
            log_x=True,
        ),
        panels.BarPlot(title="best mIoU by model, mean ± sd", metrics=["best_mIoU"], **by_model),
        panels.BarPlot(title="best mIoU by run", metrics=["best_mIoU"]),
    ]
    curves = [
        curve("val/mIoU", "validation mIoU by model, mean ± sd", **by_model),
        curve("val/mIoU", "validation mIoU by run"),
        curve("train/loss", "loss", smoothing_type="exponentialTimeWeighted", smoothing_factor=0.8),
        curve("train/lr", "learning rate"),
        curve("train/images_per_second", "images per second"),
    ]
    pictures = [panels.MediaBrowser(title="image, truth and prediction", media_keys=["val/images"])]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            workspaces.Section(name="Comparison", panels=comparison, is_open=True),
            workspaces.Section(name="Curves", panels=curves, is_open=True),
            workspaces.Section(name="Samples", panels=pictures, is_open=True),
        ],
        settings=workspaces.WorkspaceSettings(x_axis="iteration"),
    )


def publish(entity: str, project: str) -> str:
    """Saves the workspace as a new view of the project and returns its address; needs a W&B account.

    Raises:
        ConfigError: wandb-workspaces is not installed.
        SegNeXtError: W&B does not take it.
    """
    workspace = build(entity, project)
    try:
        workspace.save()
    except Exception as error:
        raise SegNeXtError(
            f"W&B does not take the dashboard for {entity}/{project} ({error}): "
            "check `wandb login`, the network, and that the project exists"
        ) from error
    return str(workspace.url)
