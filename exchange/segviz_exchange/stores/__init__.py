"""Object stores: a folder, S3, and what is measured of them."""
