"""Plans of many runs: execution, status and tables of results."""
