"""What each subcommand of `l0keras` does."""
