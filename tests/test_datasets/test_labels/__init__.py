"""The look at labels, on small files with one problem each."""
