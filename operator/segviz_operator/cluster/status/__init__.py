"""Status, conditions and Events, as they are written."""
