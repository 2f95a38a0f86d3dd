"""From the sites' fingerprints to one plan; pure."""
