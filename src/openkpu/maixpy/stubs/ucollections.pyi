"""MaixPy v1: collections."""

from collections import *
