"""A fleet on bad days; `make soak` runs the same for longer."""
