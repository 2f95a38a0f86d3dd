"""The random part: which crop, and how it is bent."""
