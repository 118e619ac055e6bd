"""Draw the pictures of the gallery again: ``python docs/gallery/draw.py [PAGE...]``.

The code of each page is run as it stands, in an empty folder.
"""

import os
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib

HERE = Path(__file__).resolve().parent


def main(names: list[str]) -> None:
    """Run the Python blocks of pages, by their names without ``.md``; of all by default."""
    matplotlib.use("agg")
    for page in sorted(HERE.glob("*.md")):
        code = "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S))
        if code and (not names or page.stem in names):
            print(f"\n{page.stem}")
            with TemporaryDirectory() as folder:
                os.chdir(folder)
                exec(compile(code, str(page), "exec"), {})
                shutil.copy(f"{page.stem}.png", HERE.parent / "figures")
                os.chdir(HERE)


if __name__ == "__main__":
    main(sys.argv[1:])
