"""W&B's dashboard over the runs of a project: comparison, curves, classes, machine, samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segnext.errors import ConfigError, SegNeXtError

__all__ = ["GROUP_KEY", "build_dashboard", "publish_dashboard"]

GROUP_KEY = "model_dataset"
"""The key of a run's configuration that joins its repetitions: model and dataset, 'tiny_ade'."""

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace


_DASHBOARD = "SegNeXt"


def build_dashboard(entity: str, project: str) -> Workspace:
    """The workspace: mIoU against FLOPs, curves by model and dataset and by run, IoU per class, memory.

    Needs no account and no network.

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
        "groupby": f"config.{GROUP_KEY}",
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
        panels.BarPlot(title="best mIoU by model and dataset, mean ± sd", metrics=["best_mIoU"], **by_model),
        panels.BarPlot(title="best mIoU by run", metrics=["best_mIoU"]),
    ]
    curves = [
        curve("val/mIoU", "validation mIoU by model and dataset, mean ± sd", **by_model),
        curve("val/mIoU", "validation mIoU by run"),
        curve("train/loss", "loss", smoothing_type="exponentialTimeWeighted", smoothing_factor=0.8),
        curve("train/lr", "learning rate"),
        curve("train/grad_norm", "gradient norm before clipping", log_y=True),
    ]
    classes = [panels.LinePlot(title="IoU per class", x="iteration", metric_regex="val/IoU/.*", title_x="iteration")]
    machine = [
        curve("train/images_per_second", "images per second"),
        curve("train/device_memory_gib", "memory on the device, GiB"),
        curve("train/device_memory_peak_gib", "most memory so far, GiB"),
    ]
    pictures = [panels.MediaBrowser(title="image, truth and prediction", media_keys=["val/images"])]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=_DASHBOARD,
        sections=[
            workspaces.Section(name="Comparison", panels=comparison, is_open=True),
            workspaces.Section(name="Curves", panels=curves, is_open=True),
            workspaces.Section(name="Classes", panels=classes, is_open=True),
            workspaces.Section(name="Machine", panels=machine, is_open=True),
            workspaces.Section(name="Samples", panels=pictures, is_open=True),
        ],
        settings=workspaces.WorkspaceSettings(x_axis="iteration"),
    )


def publish_dashboard(entity: str, project: str) -> str:
    """Saves the workspace as a new view of the project and returns its address; needs a W&B account.

    Raises:
        ConfigError: wandb-workspaces is not installed.
        SegNeXtError: W&B does not take it.
    """
    workspace = build_dashboard(entity, project)
    try:
        workspace.save()
    except Exception as error:
        raise SegNeXtError(
            f"W&B does not take the dashboard for {entity}/{project} ({error}): "
            "check `wandb login`, the network, and that the project exists"
        ) from error
    return str(workspace.url)
