"""MaixPy v1: errno."""

from errno import *
