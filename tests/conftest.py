"""Its being here lets every test import `support`."""
