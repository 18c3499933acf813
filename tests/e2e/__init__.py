"""The library in whole processes, and against programs we did not write."""
