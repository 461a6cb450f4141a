"""MaixPy v1: struct."""

from struct import *
