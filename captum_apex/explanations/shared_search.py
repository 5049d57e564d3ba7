"""The search for the regions of many prototypes, which the processes of a group share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from captum_apex.audio.regions import Box, Region
from captum_apex.bases.processes import Processes
from captum_apex.locating.region_effect import RegionEffect
from captum_apex.locating.region_search import LocatedRegion

__all__ = ["found_together"]

_CLIPS_AT_ONCE = 16  # that a process searches between two exchanges, by which the others learn of its errors

Find = Callable[[int, Sequence[int], int], Sequence[LocatedRegion]]


def found_together(
    find: Find, clips: Mapping[tuple[int, int], Sequence[int]], processes: Processes, advance: Callable[[int], object]
) -> dict[tuple[int, int, int], LocatedRegion]:
    """Finds the regions of channels in clips, each clip in one of the processes; all get all regions.

    A clip and a side are searched as in one process, with all their channels, so the regions are the same bit for bit
    where the processes compute alike. The clips are dealt out by their numbers of channels, and the processes wait for
    each other after every 16.

    Args:
        find: finds the regions in a clip, from its index in the dataset, the channels, and the side.
        clips: the channels that are wanted for each clip, by its index in the dataset and the side.
        processes: the processes, which all call this function with the same clips.
        advance: is called with the number of regions that were found since its last call.

    Returns:
        The regions by clip, channel and side, without their maps where there are several processes.

    Raises:
        ValueError: an error in one of several processes, in all of them; in one process alone, its own error.
        RuntimeError: another process has ended, or does not answer.

    Example:
        >>> from captum_apex import Box, Region
        >>> from captum_apex.bases.processes import Processes
        >>> from captum_apex.explanations.shared_search import found_together
        >>> from captum_apex.locating import LocatedRegion
        >>> def find(clip, channels, side):
        ...     return [LocatedRegion(Region((Box(0.0, 1.0, 0.1 * clip, 1.0),))) for _ in channels]
        >>> list(found_together(find, {(3, 1): [0, 7], (4, -1): [7]}, Processes(), advance=print))
        2
        1
        [(3, 0, 1), (3, 7, 1), (4, 7, -1)]
    """
    ordered = sorted(clips.items(), key=lambda each: -len(each[1]))
    n_at_once = 1 if processes.group is None else _CLIPS_AT_ONCE * processes.number
    found: dict[tuple[int, int, int], LocatedRegion] = {}
    for first in range(0, len(ordered), n_at_once):
        of_round = ordered[first : first + n_at_once]
        found_here: dict[tuple[int, int, int], LocatedRegion] = {}
        problem = None
        try:
            for (index, side), channels in of_round[processes.rank :: processes.number]:
                regions = find(index, channels, side)
                found_here |= {(index, channel, side): each for channel, each in zip(channels, regions, strict=True)}
        except Exception as error:  # the search runs the user's model and reads the user's clips
            problem = error
        found |= _exchanged(processes, found_here, problem)
        advance(sum(len(channels) for _, channels in of_round))
    return found


def _exchanged(
    processes: Processes, found: dict[tuple[int, int, int], LocatedRegion], problem: Exception | None
) -> dict[tuple[int, int, int], LocatedRegion]:
    """The regions that all processes have found; an error of one is raised in all."""
    if processes.group is None:
        processes.records({}, problem)
        return found
    entries = [] if problem else [[*key, _entry(located)] for key, located in found.items()]
    records = processes.records({"regions": entries}, problem)
    return {
        (index, channel, side): _located(entry)
        for record in records
        for index, channel, side, entry in record["regions"]
    }


def _entry(located: LocatedRegion) -> dict[str, Any]:
    """A region as lists and numbers, of which JSON keeps every bit."""
    boxes = [list(map(float, (box.low, box.high, box.start, box.end))) for box in located.region.boxes]
    effect = located.effect
    if effect is None:
        return {"boxes": boxes, "effect": None}
    score = None if effect.score is None else float(effect.score)
    shares = [float(effect.channel), list(map(float, effect.random)), score]
    return {"boxes": boxes, "effect": [*shares, effect.fires_on, effect.fires_elsewhere]}


def _located(entry: dict[str, Any]) -> LocatedRegion:
    """A region from what `_entry` gives."""
    region = Region(tuple(Box(*box) for box in entry["boxes"]))
    if entry["effect"] is None:
        return LocatedRegion(region)
    channel, random, *others = entry["effect"]
    return LocatedRegion(region, RegionEffect(channel, tuple(random), *others))
