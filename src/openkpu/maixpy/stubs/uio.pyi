"""MaixPy v1: io."""

from io import *
