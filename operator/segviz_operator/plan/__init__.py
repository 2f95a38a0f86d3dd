"""What a federation needs next, pure."""
