"""Who reaches what is kept of earlier work: nobody with less than it was accepted with, and nobody else's user."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from inference.policy import rules
from inference.policy.ask import Ask
from inference.policy.rules import Rights
from tests.inference.clients.test_rules import rights as any_rights

users = st.sampled_from([("", ""), ("dr.lee", "idp/1"), ("dr.lee", "idp/2"), ("dr.lee", "ward/1"), ("dr.kim", "idp/1")])
rights = st.builds(
    lambda found, client, user: replace(found, client=client, end_user=user[0], vouched_by=user[1]),
    any_rights,
    st.sampled_from(["ward-7", "ward-8"]),
    users,
)


def who(found: Rights) -> tuple[str, str]:
    return found.end_user, found.vouched_by.split("/")[0]


@given(rights, rights)
def test_kept_work_is_reached_with_all_it_was_accepted_with_and_by_its_own_user(kept: Rights, reader: Rights) -> None:
    expected = (
        kept.client == reader.client
        and kept.tasks <= reader.tasks
        and kept.purposes <= reader.purposes
        and kept.phi <= reader.phi
        and (not kept.end_user or who(kept) == who(reader))
    )
    assert (rules.withheld(kept, reader) is None) == expected
    assert rules.withheld(None, reader) is not None


@given(rights)
def test_whoever_may_ask_reaches_what_was_asked(held: Rights) -> None:
    if not held.tasks or not held.purposes:
        return
    ask = Ask(
        model="m-1", record={}, task=min(held.tasks), purpose=min(held.purposes),
        data_class="phi" if held.phi else "synthetic",
    )  # fmt: skip
    kept = rules.used(rules.decide(ask, held), held)
    assert rules.withheld(kept, held) is None
    assert (set(kept.tasks), set(kept.purposes), kept.phi) == ({ask.task}, {ask.purpose}, held.phi)
