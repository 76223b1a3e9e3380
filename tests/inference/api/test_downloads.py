"""A download that cannot be finished must never look like one that was: the connection ends without the last chunk."""

from __future__ import annotations

import http.client
import socket

import pytest
from openai import OpenAI

from inference.clients import services as clients
from inference.queue import rules
from inference.queue.models import FilePiece
from tests.simulators import lan as lans
from tests.simulators.lan import Lan
from tests.waiting import until

LINE = b" " * 1023 + b"\n"


def upload(client: OpenAI, pieces: int) -> str:
    return client.files.create(file=("a.jsonl", LINE * (pieces * rules.PIECE // len(LINE))), purpose="batch").id


def test_a_download_whose_seal_breaks_in_the_middle_is_cut_and_never_looks_whole(official: OpenAI, lan: Lan) -> None:
    ref = upload(official, 2)
    FilePiece.objects.filter(file__ref=ref, number=1).update(content=b"not what was sealed")
    with pytest.raises(http.client.IncompleteRead) as cut:
        lan.ask("GET", f"/v1/files/{ref}/content")
    assert len(cut.value.partial) == rules.PIECE
    assert b"error" not in cut.value.partial


def test_a_key_that_is_revoked_while_it_downloads_gets_no_more(official: OpenAI, lan: Lan) -> None:
    ref = upload(official, 24)
    spare = clients.issue_key(actor="erin", client=lan.client)
    until(lambda: lan.ask("GET", "/v1/models", key=spare.plaintext).status == 200, 10, "the second key is known")
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # what does not fit waits at the sender
    wire.connect(("127.0.0.1", lan.port))
    with wire, wire.makefile("rb") as reader:
        head = f"GET /v1/files/{ref}/content HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {spare.plaintext}\r\n\r\n"
        wire.sendall(head.encode())
        assert reader.readline().split()[1] == b"200"
        clients.revoke_key(actor="erin", prefix=spare.prefix)
        until(lambda: lan.ask("GET", "/v1/models", key=spare.plaintext).status == 401, 10, "the key is gone")
        rest = reader.read()
    assert len(rest) < 24 * rules.PIECE
    assert not rest.endswith(b"0\r\n\r\n")
    (row,) = lans.audit_rows(f"outcome = 'rights_withdrawn' AND client = '{lan.client}'")
    assert row["key_id"] == spare.prefix
