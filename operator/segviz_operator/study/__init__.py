"""`segviz study`: a table's rows, each a run."""
