"""Numbers as messages, tables and figures show them."""


def short(value: float, digits: int = 3) -> str:
    """So many significant digits, or all before the point where there are more: 0.00123, 1.23, 1234."""
    return f"{value:.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"
