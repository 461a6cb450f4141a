"""MaixPy v1: re."""

from re import *
