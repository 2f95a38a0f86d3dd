"""Rights in the bucket, and the credentials that carry them."""
