"""What a federation needs next, and who carries it out: manifests, plan, the local body, the command line."""
