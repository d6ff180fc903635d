"""The table of an exam on a terminal."""

import pandas as pd
import pytest

from eyas.report.terminal import print_table


def test_numbers_stay_whole_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    row = {"metric": "accuracy", "title": "ensemble:cnn,bilstm, soft-targets, without transfer", "score": 0.9123}
    row |= {"retention": 0.987, "size_bytes": 1_234_567, "latency_ms": 0.123, "times_faster": 345.0}
    print_table(pd.DataFrame([row]))
    said = capsys.readouterr().out
    assert "…" not in said
    for number in ("91.2%", "98.7%", "1.2 MB", "0.123 ms", "345x"):
        assert number in said
