"""Reports for people (terminal text) and for programs (JSON). Nothing here computes; it arranges what the API returns."""
