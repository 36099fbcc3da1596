"""The learner's metrics as an offline run of Weights & Biases; nothing is sent anywhere."""

from pathlib import Path

from lwd.dashboard.curves import ABOUT, Reports
from lwd.dashboard.event_files import Steps
from lwd.errors import ConfigError
from lwd.store.disk import make_folder

PROJECT = "lwd"


def export(reports: Path, folder: Path) -> Path:
    """Write every report into an offline run under `folder`; the folder of that run.

    `wandb sync` sends it from there, whenever somebody wants that. ConfigError if there is nothing
    to read.
    """
    import wandb  # pyright: ignore[reportMissingImports]

    read, step = Reports(reports), Steps()
    if not read.look():
        raise ConfigError(
            f"{reports} has no reports; give --root of a run whose learner has begun."
        )
    make_folder(folder.absolute())
    quiet = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
    run = wandb.init(project=PROJECT, dir=str(folder), mode="offline", settings=quiet)
    for report in read.every:
        metrics = {name: value for name, value in report.items() if name not in ABOUT}
        run.log(metrics | {"stage": report["stage"], "time": report["time"]}, step=step(report))
    run.finish()
    return Path(run.dir).parent
