"""How many processors there are to use."""


def cores() -> int:
    """The processors that this process may use, at least 1: those of its affinity, or its container's quota if less.

    A quota of one and a half counts as two. The variable LOKY_MAX_CPU_COUNT lowers the number further.
    """
    from joblib import cpu_count  # here, as it imports numpy, for which the command line's help does not wait

    return cpu_count()
