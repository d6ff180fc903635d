"""Scores, retention, agreement, their intervals, and calibration."""
