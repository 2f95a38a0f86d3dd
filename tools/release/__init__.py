"""What `make release` pushes: images, charts that pin them, bills of materials, provenance, signatures."""
