"""The report as one page: a single HTML file that needs nothing from outside."""
