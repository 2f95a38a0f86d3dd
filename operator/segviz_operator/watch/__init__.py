"""Metrics, and the page that `segviz run` serves."""
