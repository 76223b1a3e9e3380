"""Every item of groups A to E gets its exact code, quickly, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioning.bundle import BundleError
from tests.corpus import contents, kinds, media, signatures, weights  # noqa: F401 - each registers its items
from tests.corpus.case import CASES, Case
from tests.simulators.bundle_maker import BundleMaker

SLOWEST_S = 5.0


def used() -> float:
    """Processor seconds of this process and its children: what an attacker can make us spend, on any machine."""
    return sum(os.times()[:4])


def test_the_bundle_that_the_corpus_spoils_is_accepted(tmp_path: Path) -> None:
    received = BundleMaker(tmp_path).receive()
    assert received.verdict.ok
    assert received.manifest.version == 7


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_bundle_gets_its_code_and_leaves_nothing(case: Case, tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    case.spoil(maker)
    trust = maker.trust
    began = used()
    with pytest.raises(BundleError) as caught:
        maker.receive()
    assert caught.value.code == case.code, caught.value.message
    assert used() - began < SLOWEST_S
    assert not maker.quarantine.exists()
    assert maker.trust == trust
    assert len(caught.value.message) < 300


def test_no_item_stands_twice() -> None:
    names = [str(case) for case in CASES]
    assert len(names) == len(set(names))
