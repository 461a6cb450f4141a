"""Reports for people (terminal text) and for programs (JSON). They only arrange what the API returns."""
