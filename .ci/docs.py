"""Pages of the site (mkdocs.yml) that are not files of docs/: README.md and CHANGELOG.md of the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the pages, with links as they are seen from docs/."""
    for page, source in (("index.md", "README.md"), ("changelog.md", "CHANGELOG.md")):
        text = (ROOT / source).read_text(encoding="utf-8").replace("](CHANGELOG.md)", "](changelog.md)")
        text = re.sub(r"\[([^]]+)\]\((LICENSE|CITATION\.cff)\)", r"\1", text)  # files that are no pages
        files.append(File.generated(config, page, content=re.sub(r'(\]\(|src=")docs/', r"\1", text)))
    return files
