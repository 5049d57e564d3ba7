"""`demo`: a page of explanations without a model, a recording or a network."""

from __future__ import annotations

import argparse

from captum_apex.cli.loading import check_output_folder
from captum_apex.demonstration import demo


def run(options: argparse.Namespace) -> int:
    """Writes the demonstration and opens its page."""
    check_output_folder(options.out / "page.html")
    explained = demo(options.out, show=options.show)
    print(explained)
    print(options.out / "page.html")
    return 0
