"""The body on Kubernetes."""
