"""Templates of one self-contained page: no script, no font, no request."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def build_environment(*packages: str) -> Environment:
    """Templates of these packages, the first one's first, on top of those that all pages share."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(each) for each in (*packages, "segviz_trainer.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": seconds, "bytes": bytes_, "p": p_value, "signed": signed}
    return environment


def seconds(value: float) -> str:
    whole = round(value)
    if value < 9.95:
        return f"{value:.1f} s"
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60:02d} s"
        if whole < 3600
        else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def bytes_(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
