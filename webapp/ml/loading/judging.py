"""What fork server and parent say to each other, apart so that the parent imports nothing heavy.

Into the pipe of a question go a line when the child starts, the child's JSON (and, on a line of its
own, the graph that was compiled), and a last line that tells how the child ended.
"""

from typing import Final

STARTED: Final = b"started\n"
ENDED: Final = b"\nended "

JUDGE: Final = "judge"
COMPILE: Final = "compile"
