"""From the quantised graph to a program of the chip."""
