"""Every write of this app, one file per part of a bundle's life."""

from inference.releases.services.activation import activate, propose_activation, propose_roll_back
from inference.releases.services.deployments import (
    CHANNEL,
    mark_degraded,
    mark_failed,
    mark_serving,
    mark_well,
    retire,
)
from inference.releases.services.imports import cancel_import, run_import, start_import, sweep_imports

__all__ = [
    "CHANNEL",
    "activate",
    "cancel_import",
    "mark_degraded",
    "mark_failed",
    "mark_serving",
    "mark_well",
    "propose_activation",
    "propose_roll_back",
    "retire",
    "run_import",
    "start_import",
    "sweep_imports",
]
