"""The one process that decides which episodes make up a version of the data set."""
