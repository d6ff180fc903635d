"""The exam's page. Reads what `eyas.exam.results` reads; no torch."""

from eyas.report.page import write_page
from eyas.report.ship import ship

__all__ = ["ship", "write_page"]
