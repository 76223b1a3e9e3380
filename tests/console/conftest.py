"""The console in tests: the real pages over the real database, entered as people enter it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from tests.appliance import cast
from tests.console.door import SignedIn, enter
from tests.inference.conftest import here, stage  # noqa: F401 - fixtures

Enter = Callable[[str], SignedIn]


@pytest.fixture
def door(db: None) -> Enter:
    """`door("alice")`: alice, signed in with both factors."""
    people: dict[str, cast.Member] = {}

    def signed_in(username: str) -> SignedIn:
        if username not in people:
            people[username] = cast.member(username)
        return enter(people[username], Client())

    return signed_in
