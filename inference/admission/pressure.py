"""What the cards can bear, from the alerts the sampler keeps and from whether it lives.

The same findings that ring the operator hold back work, with the same hysteresis: there is no second opinion of what is
hot. A memory error is not pressure: fewer requests make no card right again. What is done about it, and about any other
fault, is telemetry's policy; where that drains or quarantines the card that the engine works on, nothing new goes in.

- A silent sampler on a site with GPUs is BLIND: batch is held back, people are not; cards protect themselves.
- A site that expects no GPU has no pressure, whatever the rows say.
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.alerts import selectors as alerts
from appliance.alerts.rules import Severity
from inference.admission.rules import Pressure
from inference.telemetry import selectors as telemetry
from inference.telemetry.rules import MISSING, PREFIX, UNREADABLE

_TEMPERATURE = "gpu.temperature."
_THROTTLE = "gpu.throttle."


def judge(*, expected: int, alive: bool, standing: Mapping[str, Severity], blocked: bool = False) -> Pressure:
    """The pressure, from the standing alerts by key and whether the engine's card is held. Pure."""
    if expected == 0:
        return Pressure.CLEAR
    if blocked:
        return Pressure.HELD
    if any(key.startswith(_TEMPERATURE) and severity is Severity.CRITICAL for key, severity in standing.items()):
        return Pressure.HOT
    if not alive or UNREADABLE in standing:
        return Pressure.BLIND
    if MISSING in standing or any(key.startswith((_TEMPERATURE, _THROTTLE)) for key in standing):
        return Pressure.WARM
    return Pressure.CLEAR


def read(*, expected: int) -> Pressure:
    """The pressure now; three small reads, and none where no GPU is expected."""
    if expected == 0:
        return Pressure.CLEAR
    standing = {alert.key: alert.severity for alert in alerts.standing() if alert.key.startswith(PREFIX)}
    blocked = telemetry.capacity().blocked
    return judge(expected=expected, alive=telemetry.sampler().alive, standing=standing, blocked=blocked)
