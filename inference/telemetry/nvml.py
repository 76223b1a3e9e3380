"""The only door to NVML: what each card says about itself, as our own values.

- None means unknown, never 0: a card that does not report power does not draw 0 W.
- A card that is gone raises CardLostError; NVML being gone raises NvmlUnavailableError with the reason.
- Handles are fetched once. Fetching them at every poll cost others most of a core (gpustat issue 54).
- Whether a value is good or bad is decided in rules.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import pynvml

from inference.telemetry.errors import CardLostError, NvmlUnavailableError
from inference.telemetry.rules import Card, Reading

_WHY = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "the NVIDIA driver is not installed (libnvidia-ml.so.1 is missing)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed but not loaded",
    pynvml.NVML_ERROR_NO_PERMISSION: "the sampler's user may not talk to the NVIDIA driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA driver and its library differ in version; reboot after a driver upgrade"
    ),
}
# One function that NVML cannot serve, on a card that is otherwise well.
_UNKNOWN = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_DATA,
    pynvml.NVML_ERROR_TIMEOUT,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DEPRECATED,
    pynvml.NVML_ERROR_NOT_READY,
    pynvml.NVML_ERROR_CORRUPTED_INFOROM,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_UNKNOWN,
}
_LOST = {
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_GPU_NOT_FOUND,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_RESET_REQUIRED,
}


class Nvml:
    """An open session with the driver. Use as a context manager; one per process."""

    def __init__(self) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NvmlUnavailableError(_WHY.get(error.value, f"NVML does not start: {error}")) from error
        try:
            self.driver: str | None = _known(pynvml.nvmlSystemGetDriverVersion)
            count = pynvml.nvmlDeviceGetCount()
            # A card that fell off the bus still has an index and no handle: it is missing, the others are not.
            handles = {index: _handle(index) for index in range(count)}
        except (pynvml.NVMLError, CardLostError) as error:
            self.close()
            raise NvmlUnavailableError(f"NVML does not list its cards: {error}") from error
        self._handles: dict[str, Any] = {}
        cards = []
        for index, handle in handles.items():
            card = _identity(index, handle) if handle is not None else None
            if card is not None:
                self._handles[card.uuid] = handle
                cards.append(card)
        self.cards: tuple[Card, ...] = tuple(cards)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave NVML. Safe to call when it is already gone."""
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return

    def read(self, card: Card, *, at: datetime) -> Reading:
        """What this card says now."""
        handle = self._handles[card.uuid]
        memory = _known(pynvml.nvmlDeviceGetMemoryInfo, handle)
        utilisation = _known(pynvml.nvmlDeviceGetUtilizationRates, handle)
        return Reading(
            uuid=card.uuid,
            at=at,
            utilisation_percent=utilisation.gpu if utilisation else None,
            memory_used=memory.used if memory else None,
            temperature_c=_temperature(handle),
            power_mw=_known(pynvml.nvmlDeviceGetPowerUsage, handle),
            power_limit_mw=_known(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle),
            clock_sm_mhz=_known(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
            clock_memory_mhz=_known(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM),
            ecc_corrected=_ecc(handle, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=_ecc(handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            throttle=_throttle(handle),
            energy_mj=_known(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle),
        )


def _known(function: Callable[..., Any], *arguments: Any) -> Any:
    """The value, or None where this card cannot say."""
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _UNKNOWN:
            return None
        if error.value in _LOST:
            raise CardLostError(str(error)) from error
        raise NvmlUnavailableError(_WHY.get(error.value, f"NVML stopped answering: {error}")) from error


def _handle(index: int) -> Any:
    try:
        return _known(pynvml.nvmlDeviceGetHandleByIndex, index)
    except CardLostError:
        return None


def _identity(index: int, handle: Any) -> Card | None:
    """None for a card that is gone or has no identity: without a UUID its readings could not be told apart."""
    try:
        uuid = _known(pynvml.nvmlDeviceGetUUID, handle)
        if uuid is None:
            return None
        memory = _known(pynvml.nvmlDeviceGetMemoryInfo, handle)
        pci = _known(pynvml.nvmlDeviceGetPciInfo, handle)
        return Card(
            uuid=uuid,
            index=index,
            name=_known(pynvml.nvmlDeviceGetName, handle) or "",
            serial=_known(pynvml.nvmlDeviceGetSerial, handle) or "",
            pci=_text(pci.busId) if pci else "",
            memory_total=memory.total if memory else None,
        )
    except CardLostError:
        return None


def _temperature(handle: Any) -> int | None:
    """The newer call; drivers before R565 know only the older one."""
    degrees: int | None = _known(pynvml.nvmlDeviceGetTemperatureV, handle, pynvml.NVML_TEMPERATURE_GPU)
    if degrees is None:
        degrees = _known(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    return degrees


def _throttle(handle: Any) -> int | None:
    """The bits that say why clocks are held down; the older name answers on older drivers."""
    bits: int | None = _known(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if bits is None:
        bits = _known(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    return bits


def _ecc(handle: Any, kind: int) -> int | None:
    """Errors since the driver was loaded. Unknown where ECC is off, which is not the same as none."""
    count: int | None = _known(pynvml.nvmlDeviceGetTotalEccErrors, handle, kind, pynvml.NVML_VOLATILE_ECC)
    return count


def _text(value: bytes | str) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value
