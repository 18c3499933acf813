"""The pipe: from finished records to a collector. Private."""
