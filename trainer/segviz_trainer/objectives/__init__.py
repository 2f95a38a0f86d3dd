"""What local training minimises, one file each; `segviz_trainer.objectives.by_name` has them by name."""
