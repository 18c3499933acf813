"""Applications that real servers run in the tests of R18."""
