"""What keeps the GPUs from being read, and why an act on one was refused."""


class TelemetryError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""

    code = "gpu"


class NvmlUnavailableError(TelemetryError):
    """NVML as a whole cannot be used; the message says why, in words for the console."""


class CardLostError(TelemetryError):
    """One card no longer answers: fallen off the bus, or waiting for a reset."""


class NotWellError(TelemetryError):
    """A card may not take work again yet; the message says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NoSuchCardError(TelemetryError):
    """No card has this identity, or it is not held."""

    code = "gpu_unknown"


class NoSuchEventError(TelemetryError):
    """No fault report has this number."""

    code = "gpu_event_unknown"


class PolicyError(TelemetryError):
    """What was asked of the fault policy is not one of its lines."""

    code = "gpu_policy"


class HungError(NvmlUnavailableError):
    """A call into the driver has not come back; nothing can be read until it does."""
