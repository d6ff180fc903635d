"""The exam's page. Reads what `understudy.exam.results` reads; no torch."""

from understudy.report.page import write_page
from understudy.report.ship import ship

__all__ = ["ship", "write_page"]
