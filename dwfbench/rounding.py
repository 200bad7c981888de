"""Numbers as messages, tables and figures show them."""


def short(value: float) -> str:
    """Three significant digits, or all before the point where there are more: 0.00123, 1.23, 1234."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
