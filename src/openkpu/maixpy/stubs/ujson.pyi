"""MaixPy v1: json."""

from json import *
