"""`python -m holdall`, the same as `holdall`."""

from holdall.cli.main import program

if __name__ == "__main__":
    program()
