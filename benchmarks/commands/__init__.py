"""The benchmark's command line."""
