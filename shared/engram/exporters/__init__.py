"""Records become the elements of files that others read; pure, one file per shape."""
