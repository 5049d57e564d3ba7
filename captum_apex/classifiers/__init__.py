"""A classifier with all that stands between it and an audio file, and its classes in words."""
