"""The annotation files that ILSVRC VID and DET share: one XML file per image.

Boxes are read as continuous edges, ``xmin ymin xmax ymax`` as they stand, width ``xmax − xmin``.

Source: ILSVRC2015 development kit. The reading of the edges is that of pysot, pytracking and
mmtracking; the GOT-10k toolkit takes the last pixel as inclusive and adds 1.
"""

import math
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from datamodules.sources.reading import BadEntryError, check_size
from datamodules.tracks import Skipped

_EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class AnnotatedObject:
    """One object of an image.

    Args:
        track: Its ``trackid``; empty in DET.
        category: Its WordNet id.
        box_xyxy: Box, px.
        occluded: Whether it is marked occluded.
    """

    track: str
    category: str
    box_xyxy: tuple[float, float, float, float]
    occluded: bool


@dataclass
class AnnotatedImage:
    """What one file says.

    Args:
        image_wh: Width and height, px.
        objects: The objects that are described in full.
        skipped: The others.
    """

    image_wh: tuple[int, int]
    objects: list[AnnotatedObject] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def parse_annotation(xml: bytes, where: str) -> AnnotatedImage:
    """Parse an annotation file; the order of the elements does not matter.

    Args:
        xml: Content of the file.
        where: Its name, for messages.

    Raises:
        BadEntryError: If it is no XML or the image size is missing.
    """
    try:
        root = ET.fromstring(xml)
    except (ET.ParseError, ValueError, LookupError) as error:  # also unknown encodings
        raise BadEntryError("malformed XML", f"{where} ({error})") from error
    try:
        width, height = (_number(root, f"size/{side}") for side in ("width", "height"))
    except ValueError as error:
        raise BadEntryError("image size is not usable", f"{where}: {error}") from error
    image = AnnotatedImage(check_size(width, height, where))
    for element in root.iter("object"):
        try:
            image.objects.append(_object(element))
        except ValueError as error:  # one bad object leaves the others
            reason = "object without category or box"
            image.skipped.append(Skipped(reason, 1, f"{where}: {error}"))
    return image


def _object(element: ET.Element) -> AnnotatedObject:
    category = (element.findtext("name") or "").strip()
    if not category:
        raise ValueError("expected object/name, got none")
    x1, y1, x2, y2 = (_number(element, f"bndbox/{edge}") for edge in _EDGES)
    return AnnotatedObject(
        track=(element.findtext("trackid") or "").strip(),
        category=category,
        box_xyxy=(x1, y1, x2, y2),
        occluded=(element.findtext("occluded") or "").strip() == "1",
    )


def _number(element: ET.Element, path: str) -> float:
    text = element.findtext(path)
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number in {path}, got {text!r}")
    return number
