"""MaixPy v1: hashlib."""

from hashlib import *
