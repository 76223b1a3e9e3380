"""What a client may store is bounded, also by uploads that run side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from inference.policy.rules import Rights
from inference.queue import rules, services
from inference.queue.errors import StorageFullError
from inference.queue.models import File

PIECE = b"x" * 1000


def test_uploads_side_by_side_store_no_more_than_one_client_may(
    rights: Rights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "LARGEST_FILE", 5_000)
    monkeypatch.setattr(rules, "MOST_STORED", 10_000)
    refs = [services.begin_file(rights=rights, name="night.jsonl") for _ in range(4)]

    def fill(ref: str) -> str:
        try:
            for number in range(5):
                services.add_piece(ref=ref, number=number, content=PIECE)
        except StorageFullError as full:
            return full.code
        finally:
            connection.close()
        return ""

    with ThreadPoolExecutor(max_workers=4) as pool:
        told = list(pool.map(fill, refs))
    assert File.objects.aggregate(size=Sum("size"))["size"] == rules.MOST_STORED
    assert "storage_full" in told


def test_a_client_has_only_so_many_uploads_open(rights: Rights) -> None:
    refs = [services.begin_file(rights=rights, name="night.jsonl") for _ in range(rules.MOST_UPLOADS)]
    with pytest.raises(StorageFullError) as told:
        services.begin_file(rights=rights, name="night.jsonl")
    assert told.value.code == "client_queue_full"
    services.discard_upload(ref=refs[0])
    services.begin_file(rights=rights, name="night.jsonl")


def test_uploads_that_broke_off_without_a_word_do_not_lock_their_client_out(rights: Rights) -> None:
    refs = [services.begin_file(rights=rights, name="night.jsonl") for _ in range(rules.MOST_UPLOADS)]
    File.objects.update(touched=timezone.now() - rules.UPLOAD_STALLED - timedelta(seconds=1))
    services.begin_file(rights=rights, name="night.jsonl")
    for ref in refs[1:]:  # slow is not broken off: what arrives after all counts again, and may end well
        services.add_piece(ref=ref, number=0, content=PIECE)
    with pytest.raises(StorageFullError):
        services.begin_file(rights=rights, name="night.jsonl")
