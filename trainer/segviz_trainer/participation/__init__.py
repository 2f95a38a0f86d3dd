"""A site's two commands: take part in the rounds, and score what came out."""
