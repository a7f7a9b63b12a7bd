"""Functions of other projects with their signatures and results, done by reshard."""
