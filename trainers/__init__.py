"""Programs that train, evaluate, export and measure."""
