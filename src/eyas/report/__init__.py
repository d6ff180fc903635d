"""The exam's page, drawn from the results of an exam. No torch."""

from eyas.report.page import write_page
from eyas.report.ship import ship

__all__ = ["ship", "write_page"]
