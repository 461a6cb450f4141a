"""The module ``KPU``: models on the accelerator. ``build`` makes it for one board."""

from openkpu.maixpy.kpu.module import build as build
