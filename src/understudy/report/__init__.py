"""The exam's page. Reads what `understudy.exam.results` reads; no torch."""

from understudy.report.page import write_page

__all__ = ["write_page"]
