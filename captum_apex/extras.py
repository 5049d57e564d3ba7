"""The error for an optional package that is missing: it names the extra that installs the package."""

from __future__ import annotations

__all__ = ["missing_package"]


def missing_package(package: str, extra: str, error: Exception) -> ImportError:
    """The error to raise where an optional package cannot be imported.

    Args:
        package: the package, and what it is needed for.
        extra: the extra of captum-apex that installs the package.
        error: the exception of the import.

    Example:
        >>> from captum_apex.extras import missing_package
        >>> print(missing_package("soundfile", "audio", ImportError("no module")))
        expected soundfile, but it cannot be imported: pip install 'captum-apex[audio]' (no module)
    """
    return ImportError(f"expected {package}, but it cannot be imported: pip install 'captum-apex[{extra}]' ({error})")
