"""The rate and the time left of long work."""

from eyas.progress import pace


def test_rates_have_decimals_where_they_are_slow() -> None:
    assert pace(30, 100, 20) == "1.5/s, 0:00:47 left"
    assert pace(1, 4, 8) == "0.12/s, 0:00:24 left"
    assert pace(24_000, 36_000, 2) == "12,000/s, 0:00:01 left"
    assert pace(0, 10, 3) == "0.00/s, unknown time left"


def test_a_pause_changes_the_estimate_by_its_share_alone() -> None:
    """After 100 of 400 steps in 100 s, a validation of 10 s."""
    assert pace(100, 400, 100) == "1.0/s, 0:05:00 left"
    assert pace(100, 400, 110) == "0.91/s, 0:05:30 left"
