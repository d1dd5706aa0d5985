"""What the known data sets are: facts of their authors and of the TFDS catalog, for people who choose one."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Entry:
    """A known data set: images of trainA, trainB, testA and testB, the size of its archive, and what it shows."""

    name: str
    counts: tuple
    download: str
    content: str
    licence: str


_IMAGENET = "none given; ImageNet's terms: non-commercial research"
_FLICKR = "none given; photographs from Flickr belong to their authors"
_PAINTINGS = "none given; paintings from WikiArt, photographs from Flickr"

CATALOG = (
    Entry("demo", (186, 208, 51, 51), "in the package", "satellite tiles and relief maps, true pairs for testing",
          "public domain"),
    Entry("demo_pairs", (40, 40, 11, 11), "in the package", "the demo's held-out tiles, true pairs to train on, too",
          "public domain"),
    Entry("apple2orange", (995, 1019, 266, 248), "75 MiB", "apples and navel oranges", _IMAGENET),
    Entry("facades", (400, 400, 106, 106), "34 MiB", "photographs of facades and their label maps",
          "none given; CMP Facade Database"),
    Entry("horse2zebra", (1067, 1334, 120, 140), "111 MiB", "wild horses and zebras", _IMAGENET),
    Entry("iphone2dslr_flower", (1812, 3325, 569, 480), "324 MiB", "flowers by telephone and by camera", _FLICKR),
    Entry("maps", (1096, 1096, 1098, 1098), "1.4 GiB", "satellite images and maps", "none given; Google Maps"),
    Entry("monet2photo", (1072, 6287, 121, 751), "291 MiB", "paintings by Monet and landscapes", _PAINTINGS),
    Entry("summer2winter_yosemite", (1231, 962, 309, 238), "126 MiB", "Yosemite in summer and in winter", _FLICKR),
    Entry("cezanne2photo", (525, 6287, 58, 751), "267 MiB", "paintings by Cezanne and landscapes", _PAINTINGS),
    Entry("ukiyoe2photo", (562, 6287, 263, 751), "279 MiB", "ukiyo-e prints and landscapes", _PAINTINGS),
    Entry("vangogh2photo", (400, 6287, 400, 751), "292 MiB", "paintings by van Gogh and landscapes", _PAINTINGS),
    Entry("cityscapes", (2975, 2975, 500, 500), "11 GiB, by hand", "street scenes and their labels, true pairs; see "
          "prepare-cityscapes", "free for non-commercial use, after registration with its authors"),
)


def format_table():
    """The catalog as lines of text."""
    lines = []
    for entry in CATALOG:
        counts = "/".join(map(str, entry.counts))
        lines.append(f"{entry.name:23} {counts:19} {entry.download:15} {entry.content}")
        lines.append(f"{'':23} licence: {entry.licence}")
    heading = f"{'name':23} {'trainA/B, testA/B':19} {'download':15} content"
    return "\n".join([heading, *lines])
