"""The modules that a MaixPy script imports, as they behave in the firmware of a K210 board."""
