"""Documentation leads somewhere: every relative link, and every place and heading that it names, exists."""

import re
from pathlib import Path

import pytest

from tests.tidy.test_tidy import ROOT, tracked

PAGES = [path for path in tracked(".md") if path == ROOT / "README.md" or ROOT / "docs" in path.parents]
FEATURES = ROOT / "docs" / "explanation" / "features.md"
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def links(page: Path) -> list[str]:
    """The targets of a page's links within the repository."""
    found = _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8")))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The names that a page's headings have in addresses, as forges make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_there_are_pages_with_links() -> None:
    assert len(PAGES) > 10
    assert sum(len(links(page)) for page in PAGES) > 50


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        place = (page.parent / target).resolve() if target else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(link)
    assert not broken, f"{name(page)} leads nowhere at: {broken}"


def test_every_page_is_reached_from_another() -> None:
    reached = {(page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in links(page)}
    folders = {place for place in reached if place.is_dir()}
    lost = [name(page) for page in PAGES if page.name != "README.md" and not {page, page.parent} & (reached | folders)]
    assert not lost


@pytest.mark.parametrize("feature", ["git", "projects", "pipelines", "access", "audit"])
def test_the_index_of_features_forgets_no_file_of_a_feature(feature: str) -> None:
    linked = {(FEATURES.parent / link.partition("#")[0]).resolve() for link in links(FEATURES)}
    packages = ("domain", "database/models", "database/store", "workflows", "activities", "bench")
    homes = [ROOT / package for package in (*packages, "api/routes", "api/pages", "api/protocols", "api/templates")]
    present = {place for home in homes for place in (home / feature, home / f"{feature}.py") if place.exists()}
    assert present, feature
    assert present <= linked, f"docs/explanation/features.md does not link {sorted(map(name, present - linked))}"
