import argparse
import gc
from pathlib import Path

from scripts.reference.pages import PAGES


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, render in PAGES.items():
        (folder / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    gc.disable()  # a program of a moment, whose trees, all kept, would be walked again and again
    parser = argparse.ArgumentParser(
        prog="python -m scripts.reference", description="Write the reference from the code."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/reference"))
    main(parser.parse_args().folder)
