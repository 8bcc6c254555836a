"""One folder on many hosts, kept the same over ssh, with git underneath."""
