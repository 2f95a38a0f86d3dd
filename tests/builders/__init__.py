"""What several tests build with: manifests, records, volumes, rigs."""
