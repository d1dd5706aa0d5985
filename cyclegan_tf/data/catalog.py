"""Facts about the known data sets, from their authors and the TFDS catalog, for users who choose one."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class CatalogEntry:
    """A known data set.

    Attributes:
      counts: number of images in trainA, trainB, testA and testB.
      download: size of the archive.
      content: what the images show.
    """

    name: str
    counts: tuple[int, int, int, int]
    download: str
    content: str
    license: str


_IMAGENET = "none given; ImageNet's terms: non-commercial research"
_FLICKR = "none given; photographs from Flickr belong to their authors"
_PAINTINGS = "none given; paintings from WikiArt, photographs from Flickr"

CATALOG = (
    CatalogEntry("demo", (300, 137, 31, 31), "in the package",
                 "photographs of apples and of oranges; Grocery Store Dataset", "MIT"),
    CatalogEntry("demo_maps", (186, 208, 51, 51), "in the package",
                 "satellite tiles and relief maps; the test images are pairs", "public domain"),
    CatalogEntry("demo_pairs", (40, 40, 11, 11), "in the package",
                 "the test tiles of demo_maps; the training images are pairs too", "public domain"),
    CatalogEntry("apple2orange", (995, 1019, 266, 248), "75 MiB", "apples and navel oranges", _IMAGENET),
    CatalogEntry("facades", (400, 400, 106, 106), "34 MiB", "photographs of facades and their label maps",
                 "none given; CMP Facade Database"),
    CatalogEntry("horse2zebra", (1067, 1334, 120, 140), "111 MiB", "wild horses and zebras", _IMAGENET),
    CatalogEntry("iphone2dslr_flower", (1812, 3325, 569, 480), "324 MiB", "flowers, by phone and by camera", _FLICKR),
    CatalogEntry("maps", (1096, 1096, 1098, 1098), "1.4 GiB", "satellite images and maps", "none given; Google Maps"),
    CatalogEntry("monet2photo", (1072, 6287, 121, 751), "291 MiB", "paintings by Monet and landscapes", _PAINTINGS),
    CatalogEntry("summer2winter_yosemite", (1231, 962, 309, 238), "126 MiB", "Yosemite in summer and winter", _FLICKR),
    CatalogEntry("cezanne2photo", (525, 6287, 58, 751), "267 MiB", "paintings by Cezanne and landscapes", _PAINTINGS),
    CatalogEntry("ukiyoe2photo", (562, 6287, 263, 751), "279 MiB", "ukiyo-e prints and landscapes", _PAINTINGS),
    CatalogEntry("vangogh2photo", (400, 6287, 400, 751), "292 MiB", "paintings by van Gogh and landscapes", _PAINTINGS),
    CatalogEntry("cityscapes", (2975, 2975, 500, 500), "11 GiB, by hand",
                 "street scenes and their labels, all pairs; see prepare-cityscapes",
                 "free for non-commercial use, after registration with its authors"),
)


def format_table() -> str:
    """Formats the catalog as a table."""
    lines = [f"{'name':23} {'trainA/B, testA/B':19} {'download':15} content"]
    for entry in CATALOG:
        counts = "/".join(map(str, entry.counts))
        lines.append(f"{entry.name:23} {counts:19} {entry.download:15} {entry.content}")
        lines.append(f"{'':23} license: {entry.license}")
    return "\n".join(lines)
