"""Progress: a callable of the caller's, or a bar of tqdm where someone may look at it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with the bytes that are done and those there are in all, about ten times a second, on the
# thread that called.
ProgressFn = Callable[[int, int], None]

# True: a bar, if tqdm is installed, standard error is a terminal and this is rank 0. False or
# None: nothing.
Progress = ProgressFn | bool | None

logger = logging.getLogger("reshard")


def warn(text: str) -> None:
    """What a person should know and that is no error."""
    logger.warning("%s", text)


@contextmanager
def reporting(progress: Progress, description: str) -> Iterator[ProgressFn | None]:
    """What to hand to the library for a `progress` argument."""
    if progress is None or progress is False:
        yield None
    elif progress is not True:
        yield progress
    elif os.environ.get("RANK", "0") != "0" or not sys.stderr.isatty():
        yield None
    else:
        try:
            from tqdm import tqdm
        except ImportError:
            yield None
            return
        with tqdm(desc=description, unit="B", unit_scale=True, unit_divisor=1000) as bar:

            def update(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield update
