"""The body on one machine: processes and a folder."""
