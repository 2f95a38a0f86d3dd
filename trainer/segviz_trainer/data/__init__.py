"""From files to prepared cases."""
