"""How values are shown: times, sizes, digests, states, and drawings with gaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from console import charts, diff
from console.access import sentence
from console.templatetags import shown

NOON = datetime(2026, 11, 22, 14, 5, 33, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "under 1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 4 * 3600, "3 d 4 h"),
        (None, "–"),
    ],
)
def test_a_duration_is_told_in_two_units(seconds: float | None, words: str) -> None:
    assert shown.span(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (13_912_448, "13.3 MiB"), (8 * 1024**3, "8.0 GiB"), (None, "–")],
)
def test_a_size_is_told_in_the_unit_a_person_would_use(count: int | None, words: str) -> None:
    assert shown.size(count) == words


def test_a_state_is_a_shape_and_a_word_and_an_unknown_level_is_never_shown_as_well() -> None:
    assert "<svg" in shown.state("well", "Serving")
    assert "Serving" in shown.state("well", "Serving")
    assert "state-unknown" in shown.state("splendid", "Serving")


def test_a_digest_shows_twelve_and_carries_all_and_markup_in_it_stays_text() -> None:
    html = shown.digest("a" * 12 + "b" * 52)
    assert ">aaaaaaaaaaaa</code>" in html
    assert "data-copy=" in html
    assert "<script>" not in shown.digest("<script>alert(1)</script>")


def test_a_time_is_site_time_to_the_minute_with_the_instant_behind_it() -> None:
    html = shown.when(NOON)
    assert ">2026-11-22 14:05<" in html
    assert NOON.isoformat() in html
    assert shown.when(None) == "never"


def test_a_time_ahead_of_the_clock_is_said_to_be_so() -> None:
    assert "ahead of the clock" in shown.ago(datetime.now(UTC) + timedelta(hours=1))
    assert shown.ago(datetime.now(UTC) - timedelta(minutes=3)) == "3 min ago"


def test_a_refusal_reads_as_a_sentence() -> None:
    assert sentence("alice opened this change") == "Alice opened this change."
    assert sentence("Say why.") == "Say why."
    assert sentence("") == "This was refused."


def test_a_line_breaks_where_a_value_or_time_is_missing() -> None:
    at = [NOON + timedelta(seconds=5 * n) for n in range(6)]
    whole = charts.line("Temperature", "°C", [(moment, 40.0) for moment in at], top=100)
    assert len(whole.lines) == 1
    unknown = charts.line("Temperature", "°C", [*((m, 40.0) for m in at[:3]), (at[3], None), (at[4], 41.0)], top=100)
    assert len(unknown.lines) == 2
    silent = charts.line("Temperature", "°C", [(at[0], 40.0), (at[1], 40.0), (at[5] + timedelta(60), 41.0)], top=100)
    assert len(silent.lines) == 2
    assert charts.line("Temperature", "°C", [(NOON, None)], top=100).last is None


def test_a_value_above_the_scale_stretches_it_instead_of_leaving_the_box() -> None:
    drawn = charts.line("Power", "W", [(NOON, 90.0), (NOON + timedelta(seconds=1), 250.0)], top=100)
    assert drawn.top == 250
    assert all(0 <= float(pair.split(",")[1]) <= charts.HEIGHT for pair in drawn.lines[0].split())


def test_the_diff_shows_every_fact_and_marks_the_lines_that_differ() -> None:
    now = {"release": "a", "arguments": ["--max-model-len", "1024", "--enforce-eager"], "unheard_of": 1}
    after = {"release": "b", "arguments": ["--max-model-len", "2048", "--enforce-eager"], "unheard_of": 1}
    rows = {row.label: row for row in diff.rows(now, after)}
    assert set(rows) == {"Release digest", "Launch arguments", "unheard_of"}
    arguments = rows["Launch arguments"]
    assert [(line.text, line.changed) for line in arguments.will] == [
        ("--max-model-len 2048", True),
        ("--enforce-eager", False),
    ]
    assert [line.text for line in arguments.was if line.changed] == ["--max-model-len 1024"]
    assert rows["Release digest"].changed
    assert arguments.changed
    assert not rows["unheard_of"].changed


def test_a_fact_that_only_one_side_has_is_a_difference() -> None:
    rows = {row.label: row for row in diff.rows({"gone": 1}, {"new": 2})}
    assert rows["gone"].changed
    assert rows["new"].changed
    assert rows["gone"].will == ()


def test_moved_arguments_differ_even_when_the_same_lines_remain() -> None:
    rows = diff.rows({"arguments": ["--a", "--b"]}, {"arguments": ["--b", "--a"]})
    assert rows[0].changed
