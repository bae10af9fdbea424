"""Where Feast has names of its definitions; see the modules."""
