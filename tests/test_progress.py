"""What a run says on a terminal and in a log."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import pytest

from fastserve import progress
from fastserve.progress import BarProgress, LogProgress, NoProgress, default_progress


def test_plain_lines_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(default_progress(), LogProgress)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        told = LogProgress().view("v")
        told.stage("reading", 10)
        told.advance(5)
        told.close()
    assert [line.partition(",")[0] for line in caplog.messages] == [
        "v: reading: at most 10 rows",
        "v: reading: 5 of 10 rows",
        "v: reading: ended after 5 rows",
    ]


def test_a_bar_for_each_view_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bars = default_progress()
    first, second = bars.view("v"), bars.view("w")
    first.stage("reading", 10)
    second.stage("reading", 10)
    first.advance(10)
    first.stage("writing", 5)
    first.close()
    second.close()
    assert bars.view("x") is not None
    text = capsys.readouterr().err
    assert "v: reading: 100%" in text and "w: reading" in text and "v: writing" in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr", [None, io.StringIO()], ids=["none", "file"])
def test_lines_if_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch, stderr: Any) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    assert isinstance(default_progress(), LogProgress)


def test_lines_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(default_progress(), BarProgress)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert isinstance(default_progress(), LogProgress)


def test_a_line_of_the_terminal_is_used_again() -> None:
    bars = BarProgress()
    first, second = bars.view("a"), bars.view("b")
    assert bars._lines == {0, 1}
    first.close()
    third = bars.view("c")
    assert bars._lines == {0, 1}
    second.close()
    third.close()
    assert bars._lines == set()


def test_few_lines_for_many_batches(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        told = LogProgress().view("v")
        told.stage("reading", 1000)
        for _ in range(1000):
            told.advance(1)
        told.stage("writing", 5)
        told.close()
        told.close()
    assert [line.partition(",")[0] for line in caplog.messages] == [
        "v: reading: at most 1000 rows",
        "v: reading: ended after 1000 rows",
        "v: writing: at most 5 rows",
        "v: writing: ended after 0 rows",
    ]


def test_a_view_that_never_began_says_nothing(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        LogProgress().view("v").close()
        BarProgress().view("v").close()
    assert (caplog.messages, capsys.readouterr().err) == ([], "")


def test_more_rows_than_were_expected(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        told = LogProgress().view("v")
        told.stage("writing", 5)
        told.advance(0)
        told.advance(7)
    assert caplog.messages[1].endswith("v: writing: 0 of 5 rows, 0 rows/s, 0 s left")
    assert caplog.messages[2].endswith(", 0 s left")


def test_nothing_is_said_where_nothing_is_wanted(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        told = NoProgress().view("v")
        told.stage("reading", 5)
        told.advance(5)
        told.close()
    assert (caplog.messages, capsys.readouterr()) == ([], ("", ""))
