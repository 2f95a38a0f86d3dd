"""The contract between the pods: object keys, records, tensor codec, store, and who is in a round."""
