"""From the measurements of one run to ratios and goals. Pure: values in, verdict out.

- A ratio is taken within one repetition; a goal is met when the worst repetition meets it, not the median.
- A load of a repetition is void when the hypervisor took more than 2 % of it, when the control arm stands more than 15 %
  off its own median of the run, or when an answer was not whole. Void ones are kept and counted, and decide nothing but
  what must never happen at all: a lost event is lost on a busy machine too (`Goal.always`).
- The same arm measured twice under two names gives the error bar: what differs between them is noise.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_STEAL = 2.0
MOST_DRIFT = 0.15

Repetition = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """One figure of a repetition, and what it has to be. `at_most` and `at_least`: one of them, or none to only show it."""

    name: str
    says: str
    value: Callable[[Repetition], float | None]
    at_most: float | None = None
    at_least: float | None = None
    always: bool = False
    """Judged over what is void too."""

    @property
    def wanted(self) -> str:
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return f"at least {self.at_least:g}" if self.at_least is not None else ""

    def worst(self, values: Sequence[float]) -> float:
        return min(values) if self.at_least is not None else max(values)

    def met(self, values: Sequence[float]) -> bool | None:
        """None: there is nothing to judge by."""
        if not values:
            return None
        if self.at_most is not None:
            return self.worst(values) <= self.at_most
        return self.worst(values) >= self.at_least if self.at_least is not None else None


def void(repetitions: Sequence[Repetition], *, control: str, figure: str) -> list[dict[str, str]]:
    """For each repetition the loads of it that decide nothing, and why."""
    loads = sorted({load for repetition in repetitions for load in repetition["loads"]})
    middle = {
        load: statistics.median(figures) for load in loads if (figures := _figures(repetitions, load, control, figure))
    }
    return [
        {
            load: why
            for load, arms in repetition["loads"].items()
            if (why := _why_void(arms, control, figure, middle.get(load)))
        }
        for repetition in repetitions
    ]


def _figures(repetitions: Sequence[Repetition], load: str, arm: str, figure: str) -> list[float]:
    found = (repetition["loads"].get(load, {}).get(arm) for repetition in repetitions)
    return [arm_found[figure] for arm_found in found if arm_found and arm_found[figure]]


def _why_void(arms: Mapping[str, Any], control: str, figure: str, middle: float | None) -> str:
    for arm, counted in arms.items():
        if counted["steal"] > MOST_STEAL:
            return f"{counted['steal']} % on {arm} was stolen by the hypervisor"
        if counted["faults"]:
            return f"{counted['faults']} answers on {arm} were not whole"
    found = arms.get(control, {}).get(figure)
    if found and middle and abs(found / middle - 1) > MOST_DRIFT:
        return f"{control} stood {100 * (found / middle - 1):+.0f} % off its median"
    return ""


def without(repetition: Repetition, voids: Mapping[str, str]) -> Repetition:
    """What of a repetition decides."""
    return {**repetition, "loads": {load: arms for load, arms in repetition["loads"].items() if load not in voids}}


def verdict(
    repetitions: Sequence[Repetition], goals: Sequence[Goal], voids: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """`ratios`: every value with its median and worst; `goals`: whether the worst is good enough; `n`: how many
    repetitions were run, of which each ratio says how many of them it was drawn from.
    """
    counted = [without(repetition, gone) for repetition, gone in zip(repetitions, voids, strict=True)]
    ratios: dict[str, Any] = {}
    verdicts: dict[str, Any] = {}
    for goal in goals:
        judged = repetitions if goal.always else counted
        values = [value for repetition in judged if (value := goal.value(repetition)) is not None]
        if values:
            ratios[goal.name] = {
                "says": goal.says,
                "n": len(values),
                "median": round(statistics.median(values), 4),
                "worst": round(goal.worst(values), 4),
                "all": [round(value, 4) for value in values],
            }
        if goal.wanted:
            verdicts[goal.name] = {"says": goal.says, "wanted": goal.wanted, "met": goal.met(values)}
    return {"ratios": ratios, "goals": verdicts, "n": len(repetitions)}


def ratio(load: str, figure: str, above: str, below: str) -> Callable[[Repetition], float | None]:
    """One arm's figure over another's, both under the same load of the same repetition."""

    def value(repetition: Repetition) -> float | None:
        arms = repetition["loads"].get(load, {})
        if above not in arms or below not in arms or not arms[below][figure] or arms[above][figure] is None:
            return None
        return float(arms[above][figure] / arms[below][figure])

    return value


def of_load(load: str, figure: Callable[[Mapping[str, Any]], float]) -> Callable[[Repetition], float | None]:
    """A figure of one load's arms; nothing where that load is void."""

    def value(repetition: Repetition) -> float | None:
        arms = repetition["loads"].get(load)
        return None if arms is None else figure(arms)

    return value
