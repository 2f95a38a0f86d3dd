"""What happens at a site: data, model, objective, training, taking part in rounds."""
