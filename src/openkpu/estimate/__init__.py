"""What things cost on the chip: a small price model that the lowering asks when a layer can run in several ways."""
