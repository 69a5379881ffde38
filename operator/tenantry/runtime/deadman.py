"""The dead man's switch: the kernel ends the process, unless the process goes on saying that it is the leader."""

from __future__ import annotations

import signal


class DeadMansSwitch:
    """A timer of the kernel's whose signal nobody handles, so that it kills: SIGALRM, exit code 142 in a container.

    No check before a write can do the same: a process may stand still between the check and the write, stopped or
    starved, for longer than its lease. The timer goes on meanwhile, and the process dies before its next instruction;
    with it die its connections, uploads and the programs at its pipes. Only for the main thread.
    """

    __slots__ = ()

    def arm(self, seconds: float) -> None:
        """Set it, anew if it is set."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))

    def disarm(self) -> None:
        """Stop it."""
        signal.setitimer(signal.ITIMER_REAL, 0)
