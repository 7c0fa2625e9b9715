"""The last cut: from gates that have learned to a model of the asked size."""
