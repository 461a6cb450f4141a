"""The board as a page in the browser: ``session`` runs the script, ``hub`` keeps what the page shows, ``server``."""
