"""What happens between the sites: collect, verify, merge, commit. Never torch."""
