"""The results of runs as tables and figures."""
