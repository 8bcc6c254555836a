"""Stores: anything that keeps bytes under addresses, behind the protocols in `holdall.stores.base`."""
