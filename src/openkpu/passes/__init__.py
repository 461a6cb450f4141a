"""Rewrites of the float graph, one a file, the file named after the rewrite."""
