"""What the documentation site takes from outside docs/: the README as its first page, and files that pages link to."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """The README as if it lay in docs/."""
    text = re.sub(r"\]\((?![a-z]+:|#)", "](../", (ROOT / "README.md").read_text()).replace("](../docs/", "](")
    files.append(File.generated(config, "README.md", content=text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Copy what a link out of docs/ leads to into the site, and point the link there."""
    inside = "](" + "../" * page.file.src_uri.count("/")
    outside = inside + "../"
    for name in re.findall(rf"{re.escape(outside)}([^)#]+)", markdown):
        if (ROOT / name).is_file() and files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return markdown.replace(outside, inside)
