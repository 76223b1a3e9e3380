"""What keeps the GPUs from being read."""


class TelemetryError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""


class NvmlUnavailableError(TelemetryError):
    """NVML as a whole cannot be used; the message says why, in words for the console."""


class CardLostError(TelemetryError):
    """One card no longer answers: fallen off the bus, or waiting for a reset."""
