"""The servers that are measured beside holdall, and holdall."""
