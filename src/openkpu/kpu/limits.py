"""Limits that the command line needs too: a module of its own, because the command line starts without NumPy."""

from typing import Final

MAX_THREADS: Final = 64
"""The most threads that a layer may be spread over."""
