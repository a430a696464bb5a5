"""The report: one HTML page with the claims, the figures, the verification and the thoughts, which needs no network."""

from experiments.report.page import build

__all__ = ["build"]
