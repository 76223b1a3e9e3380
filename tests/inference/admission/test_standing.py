"""What a door knows is whole, or it is not used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.conf import settings

from inference.admission.errors import StaleError
from inference.admission.standing import Standing, conninfo
from inference.releases import selectors as releases
from tests.simulators import lan

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def standing() -> Iterator[Standing]:
    """Over rows of a release that serves; nothing of it was read before."""
    lan.serve_a_release()
    releases.control_tokens.cache_clear()
    yield Standing(conninfo())
    releases.control_tokens.cache_clear()


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"added_tokens": [{}]}', '{"added_tokens": [{"content": 5}]}', None]
)
def test_a_release_whose_tokenizer_cannot_be_read_is_not_served_from(standing: Standing, content: str | None) -> None:
    path = settings.SITE.releases_dir / lan.DIGEST / "tokenizer.json"
    assert asyncio.run(standing.refresh())
    assert "[[WARD]]" in standing.current().control_tokens
    releases.control_tokens.cache_clear()
    other = Standing(conninfo())
    good = path.read_text()
    try:
        path.unlink() if content is None else path.write_text(content)
        assert not asyncio.run(other.refresh())
        with pytest.raises(StaleError):
            other.current()
    finally:
        path.write_text(good)
    assert asyncio.run(other.refresh())


def test_what_runs_goes_on_a_little_without_a_reading_and_nothing_new_is_let_in(
    standing: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = lan.new_key()
    assert asyncio.run(standing.refresh())
    rights = standing.current().clients.of_key_id(key[:12], now=datetime.now(UTC))
    assert rights is not None
    for age in (0, 4, 7):  # a short restart of PostgreSQL cuts nothing
        monkeypatch.setattr(standing, "_taken", time.monotonic() - age)
        standing.check_still(rights)
        if age < 5:
            standing.current()
        else:
            with pytest.raises(StaleError):
                standing.current()
    monkeypatch.setattr(standing, "_taken", time.monotonic() - 9)
    with pytest.raises(StaleError):
        standing.check_still(rights)
