"""Many trainings, or many networks, in one table and one picture."""
