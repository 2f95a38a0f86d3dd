"""A Kubernetes cluster of one node on this machine, for the tests: real control plane, pods and store."""
