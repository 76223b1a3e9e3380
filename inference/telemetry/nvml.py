"""The only door to NVML: what each card says about itself, as our own values.

- None means unknown, never 0: a card that does not report power does not draw 0 W.
- A card that is gone raises CardLostError; NVML being gone raises NvmlUnavailableError with the reason.
- Handles are fetched once. Fetching them at every poll cost others most of a core (gpustat issue 54).
- A call can hang in the driver for ever, so all of them are made in `Thread`, which gives up waiting and says so.
- Whether a value is good or bad is decided in rules.py.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import pynvml

from inference.telemetry.errors import CardLostError, HungError, NvmlUnavailableError
from inference.telemetry.rules import Card, Health, Process, Reading, Report, Source, pci_place

Value = TypeVar("Value")

# More than a turn can bring; the rest waits for the next one.
_MOST_EVENTS = 64
_LINK_ERRORS = (
    pynvml.NVML_NVLINK_ERROR_DL_REPLAY,
    pynvml.NVML_NVLINK_ERROR_DL_RECOVERY,
    pynvml.NVML_NVLINK_ERROR_DL_CRC_FLIT,
    pynvml.NVML_NVLINK_ERROR_DL_CRC_DATA,
)

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
            self.library: str | None = _known(pynvml.nvmlSystemGetNVMLVersion)
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
        self._places = {_address(self._handles[card.uuid]): pci_place(card.pci) for card in cards}
        self._events = _listen(self._handles.values())

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

    def health(self, card: Card, *, at: datetime) -> Health:
        """The counters that move slowly. Dearer than `read`: some are fetched from the card's own memory."""
        handle = self._handles[card.uuid]
        remapped = _known(pynvml.nvmlDeviceGetRemappedRows, handle)
        mig = _known(pynvml.nvmlDeviceGetMigMode, handle)
        return Health(
            uuid=card.uuid,
            at=at,
            ecc_corrected_total=_ecc(handle, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, pynvml.NVML_AGGREGATE_ECC),
            ecc_uncorrected_total=_ecc(handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_AGGREGATE_ECC),
            retired_pages=_retired(handle),
            retirement_pending=_flag(_known(pynvml.nvmlDeviceGetRetiredPagesPendingStatus, handle)),
            remapped_rows=remapped[0] + remapped[1] if remapped else None,
            remap_pending=_flag(remapped[2]) if remapped else None,
            remap_failed=_flag(remapped[3]) if remapped else None,
            nvlink_errors=_nvlink(handle),
            pcie_replays=_known(pynvml.nvmlDeviceGetPcieReplayCounter, handle),
            mig=_flag(mig[0]) if mig else None,
            processes=_processes(handle),
        )

    def xids(self, *, at: datetime) -> list[Report]:
        """The faults the driver told since the last time; never waits."""
        found: list[Report] = []
        while self._events is not None and len(found) < _MOST_EVENTS:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError as error:
                # Nothing more, or a card that went while it was asked: `read` says the latter.
                if error.value in _UNKNOWN | _LOST:
                    break
                raise NvmlUnavailableError(_WHY.get(error.value, f"NVML stopped answering: {error}")) from error
            place = self._places.get(_address(event.device), "")
            if event.eventType & pynvml.nvmlEventTypeXidCriticalError:
                found.append(Report(xid=int(event.eventData), place=place, at=at, source=Source.DRIVER))
        return found


class Thread:
    """Makes calls in a thread of its own, one at a time, and does not wait for ever.

    Nothing can take a call back from the driver: whoever hung is left behind, and until it returns everything else is
    refused. The thread is a daemon, so the process can still end.
    """

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]]] = queue.SimpleQueue()
        self._since: float | None = None
        threading.Thread(target=self._work, name="nvml", daemon=True).start()

    @property
    def hung_s(self) -> float:
        """How long the call that has not come back is out; 0 when none is."""
        since = self._since
        return time.monotonic() - since if since is not None else 0.0

    def call(self, work: Callable[[], Value], *, within_s: float) -> Value:
        """What the work returns or raises; HungError when it takes too long, or another one still does."""
        if self._since is None:
            answers: queue.SimpleQueue[tuple[Value | None, BaseException | None]] = queue.SimpleQueue()
            self._since = time.monotonic()
            self._asked.put((work, answers))
            try:
                value, error = answers.get(timeout=within_s)
            except queue.Empty:
                pass
            else:
                if error is not None:
                    raise error
                return value  # type: ignore[return-value]  # without an error it is what the work returned
        raise HungError("the NVIDIA driver does not come back from a call; the machine may need a restart")

    def _work(self) -> None:
        while True:
            work, answers = self._asked.get()
            try:
                answer: tuple[Any, BaseException | None] = (work(), None)
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to whoever asked
                answer = (None, error)
            self._since = None
            answers.put(answer)


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


def _ecc(handle: Any, kind: int, counter: int = pynvml.NVML_VOLATILE_ECC) -> int | None:
    """Errors since the driver was loaded, or of the board's life. Unknown where ECC is off, which is not none."""
    count: int | None = _known(pynvml.nvmlDeviceGetTotalEccErrors, handle, kind, counter)
    return count


def _retired(handle: Any) -> int | None:
    """Pages put aside for either cause; cards since Ampere remap rows instead and do not say."""
    causes = (
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    )
    lists = [_known(pynvml.nvmlDeviceGetRetiredPages, handle, cause) for cause in causes]
    known = [pages for pages in lists if pages is not None]
    return sum(map(len, known)) if known else None


def _nvlink(handle: Any) -> int | None:
    """Errors over all links that are up; unknown where there is none."""
    total: int | None = None
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        state = _known(pynvml.nvmlDeviceGetNvLinkState, handle, link)
        if state is None:
            break  # links are numbered from 0 without a gap: there is no further one
        if not state:
            continue
        for counter in _LINK_ERRORS:
            count = _known(pynvml.nvmlDeviceGetNvLinkErrorCounter, handle, link, counter)
            if count is not None:
                total = (total or 0) + int(count)
    return total


def _processes(handle: Any) -> tuple[Process, ...] | None:
    rows = _known(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
    if rows is None:
        return None
    return tuple(Process(pid=int(row.pid), memory=row.usedGpuMemory) for row in rows)


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _address(handle: Any) -> int:
    """Which card a handle means: an event brings a handle of its own to the same card."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _listen(handles: Any) -> Any:
    """Ask to be told of faults; None where this driver tells nobody."""
    try:
        events = _known(pynvml.nvmlEventSetCreate)
    except CardLostError:
        return None
    heard = False
    for handle in handles:
        try:
            pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
            heard = True
        except pynvml.NVMLError:
            continue  # a card without events; the kernel log tells of it as well
    return events if heard else None


def _text(value: bytes | str) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value
