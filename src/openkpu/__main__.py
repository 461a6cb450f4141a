"""``python -m openkpu`` is ``kpu``."""

from openkpu.cli import main

if __name__ == "__main__":
    main()
