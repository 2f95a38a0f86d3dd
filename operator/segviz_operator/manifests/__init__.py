"""What people write, accepted or refused."""
