"""What sshd starts for a node's key: the shell, which lies beside it.

Python compiles the file that it is started with each time anew, and keeps what it has compiled of those that are
imported. So this file is short.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # which `-I` leaves out
shell = __import__("shell")
del sys.path[0]

if __name__ == "__main__":
    sys.exit(shell.main())
