"""Values and rules without files, sockets, processes, clock or randomness."""
