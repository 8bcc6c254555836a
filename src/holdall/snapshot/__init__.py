"""Commits of directory trees, and copies of whole stores."""
