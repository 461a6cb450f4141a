"""Readers of model files: file -> graph. Every node keeps the name it has in the source."""
