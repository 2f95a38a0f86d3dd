"""`segviz join`: a site outside of the cluster takes part."""
