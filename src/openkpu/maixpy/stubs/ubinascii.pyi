"""MaixPy v1: binascii."""

from binascii import *
