"""What `segviz doctor` looks at: each check asks the API server or the store, and ends as findings."""
