"""Runs a Program on a simulated K210: 2 MiB of AI RAM with the real layout, a main buffer, the KPU, the CPU steps."""
