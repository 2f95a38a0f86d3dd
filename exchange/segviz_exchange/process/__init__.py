"""What every process does alike: ending, logging, serving its metrics."""
