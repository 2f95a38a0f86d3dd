"""A finished model: exported, loaded, described, applied."""
