"""Explanations of clips by prototypes, and of long recordings by events."""
