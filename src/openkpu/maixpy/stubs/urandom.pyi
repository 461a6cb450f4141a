"""MaixPy v1: random."""

from random import *
