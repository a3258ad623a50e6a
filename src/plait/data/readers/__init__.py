"""One file per format: each turns files into blocks of Arrow columns, with types that follow from all the data."""
