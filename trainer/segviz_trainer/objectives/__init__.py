"""What local training minimises, one file each; `segviz_trainer.objective` has them by name."""
