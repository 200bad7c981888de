"""Where the console script begins, and ``python -m dwfbench``."""

import os
import signal


def main() -> None:
    """The command line. While what it needs is still being imported, an interrupt ends it in one sentence."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupted)
    from dwfbench.cli.app import main

    main()


def interrupted(*_: object) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(130)


if __name__ == "__main__":
    main()
