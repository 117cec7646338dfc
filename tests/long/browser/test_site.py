"""The site, built from freshly executed notebooks as its command builds it, and walked through."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from filelock import FileLock
from playwright.sync_api import Page

import chapters
from tools import repository, stamp
from chapters import CHAPTERS
from tools.claims import claims
from tools.site.markdown import anchor, rendered

ROOT = checkout.root()
STEMS = [chapter.stem for chapter in CHAPTERS]
NAMES = ["index", *STEMS, "messages", "recap", "search"]
MOST_SHEETS = 3  # of paper, for the recap
SCHEMES = ("light", "dark")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site, built once however many processes run the tests."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, failure = shared / "site", shared / "site-failed.txt"
    with FileLock(shared / "site.lock"):
        if not folder.exists() and not failure.exists():
            command = [sys.executable, "-m", "helpers", "site", "--out", str(folder)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
            if done.returncode:
                failure.write_text(done.stdout + done.stderr, "utf-8")
    assert folder.exists(), failure.read_text("utf-8")
    return folder


@pytest.fixture(scope="session")
def parsed(site):
    """Each page of the site, by its name."""
    return {name: Parsed((site / f"{name}.html").read_text("utf-8")) for name in NAMES}


class Parsed(HTMLParser):
    """The elements of a page, each as its name and its attributes, and the page's text."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)

    @property
    def anchors(self) -> set[str | None]:
        return {attributes["id"] for _, attributes in self.elements if "id" in attributes}


@pytest.fixture(scope="session")
def url(site):
    """The address of the site on this machine."""
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def visit(page, url):
    """Open a page of the site by its name, in a colour scheme, on a screen of a width."""

    def visit_(name, scheme="light", width=1400):
        page.page.set_viewport_size({"width": width, "height": 900})
        page.page.emulate_media(color_scheme=scheme)
        page.page.goto(f"{url}/{name}")
        return page.page

    return visit_


# Every page


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_all_its_pictures_reports_no_error_and_asks_nobody_else(
    visit, page, url, name
):
    asked = []
    page.page.on("request", lambda request: asked.append(request.url))
    opened = visit(f"{name}.html")
    undrawn = opened.evaluate(
        """async () => {
            const images = [...document.images];
            for (const image of images) image.loading = "eager";
            await Promise.allSettled(images.map((image) => image.decode()));
            return images.filter((image) => !image.naturalWidth).map((image) => image.src);
        }"""
    )
    assert undrawn == []
    assert page.errors == []
    assert [one for one in asked if not one.startswith((url, "data:"))] == []


@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_no_serious_fault(visit, name):
    opened = visit(f"{name}.html")
    others = {"rules": {"color-contrast": {"enabled": False}}}  # which the next test looks at
    assert _serious(opened, others) == []


# A colour on its way to the other scheme, or a fold that fades in, is judged by its end.
AT_ONCE = "*, ::before, ::after { transition: none !important; animation: none !important; }"

# Of what looks the same, axe need see one place only: it takes a minute for all words of a chapter.
MARK_LOOKS = """() => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    const seen = new Set();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const place = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !place.checkVisibility()) continue;
        let ground = place;
        const colour = () => getComputedStyle(ground).backgroundColor;
        while (ground.parentElement && colour() === "rgba(0, 0, 0, 0)") {
            ground = ground.parentElement;
        }
        const {color, fontSize, fontWeight, opacity} = getComputedStyle(place);
        const look = [color, fontSize, fontWeight, opacity, colour()].join();
        if (!seen.has(look)) place.dataset.look = seen.size;
        seen.add(look);
    }
    return seen.size;
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_every_text_easy_to_tell_from_its_ground(visit, name, scheme):
    opened = visit(f"{name}.html", scheme)
    assert opened.evaluate("document.documentElement.dataset.theme") == scheme
    opened.add_style_tag(content=AT_ONCE)
    assert opened.evaluate(MARK_LOOKS) > 5
    looks = {"include": [["[data-look]"]]}
    assert _serious(opened, {"runOnly": ["color-contrast"]}, looks) == []


def _serious(page: Page, options: dict, context: dict | None = None) -> list[str]:
    # To describe also the thousands of places where all is well takes four times as long.
    found = Axe().run(page, context, options | {"resultTypes": ["violations"]})
    faults = found.response["violations"]
    return [_said(fault) for fault in faults if fault["impact"] in ("serious", "critical")]


def _said(fault: dict) -> str:
    nodes = [f"{node['target']}: {node['failureSummary']}" for node in fault["nodes"][:3]]
    return "\n".join([f"{fault['id']} at {len(fault['nodes'])} places", *nodes])


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_a_screen_of_400_pixels(visit, name):
    opened = visit(f"{name}.html", width=400)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    beyond = opened.evaluate(
        """() => [...document.querySelectorAll("article p, article li, article h1, article h2")]
            .filter((part) => !part.closest("table"))  // which scrolls by itself
            .filter((part) => part.getBoundingClientRect().right > 400 && part.innerText)
            .map((part) => part.innerText)"""
    )
    assert beyond == []


@pytest.mark.parametrize("name", NAMES)
def test_every_link_and_source_of_a_page_leads_to_something(site, parsed, name):
    places = [a["href"] for tag in ("a", "link") for a in parsed[name].all(tag) if "href" in a]
    places += [a["src"] for tag in ("img", "script") for a in parsed[name].all(tag) if "src" in a]
    assert len(places) > 10
    assert [place for place in places if not _leads_to_something(place, name, site, parsed)] == []


def _leads_to_something(place: str, name: str, site: Path, parsed: dict[str, Parsed]) -> bool:
    if re.match(r"\w[\w+.-]*:", place):
        return place.startswith("https://")
    path, _, fragment = unquote(place).partition("#")
    path = path.partition("?")[0] or f"{name}.html"
    if not fragment:
        return (site / path).exists()
    return (site / path).exists() and fragment in parsed[path.removesuffix(".html")].anchors


@pytest.mark.parametrize("name", NAMES)
def test_every_image_of_a_page_has_a_text(parsed, name):
    assert [image for image in parsed[name].all("img") if not (image["alt"] or "").strip()] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_page_has_a_frame_or_a_path_of_this_machine(site, parsed, name):
    assert list(parsed[name].all("iframe")) == []
    for path in (ROOT, Path.home(), site.parent):
        assert f"{path}{os.sep}" not in parsed[name].text


def test_the_front_page_leads_to_all_others(parsed):
    linked = {a.get("href") for a in parsed["index"].all("a")}
    assert {f"{name}.html" for name in NAMES if name not in ("index", "search")} <= linked


# The chapters


@pytest.mark.parametrize("chapter", CHAPTERS, ids=STEMS)
def test_a_chapter_offers_its_notebook_in_colab_and_as_it_is_in_the_repository(
    site, parsed, chapter
):
    links = list(parsed[chapter.stem].all("a"))
    (download,) = [a["href"] for a in links if "download" in a]
    original = ROOT / "notebooks" / f"{chapter.stem}.ipynb"
    assert (site / download).read_bytes() == original.read_bytes()
    assert stamp.colab_url(chapter, checkout.repository(ROOT)) in {a["href"] for a in links}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=STEMS)
def test_every_exercise_of_a_chapter_has_its_hints_and_its_solution_folded(parsed, chapter):
    own = [name for name in exercises.catalogue() if name.startswith(f"{chapter.room}.")]
    folds = list(parsed[chapter.stem].all("details"))
    for kind in ("hints", "solution"):
        assert sum(fold.get("class") == kind for fold in folds) == len(own)
    assert [fold for fold in folds if "open" in fold] == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=STEMS)
def test_a_chapter_shows_what_its_cells_showed(parsed, chapter):
    nb = nbformat.read(ROOT / "notebooks" / f"{chapter.stem}.ipynb", as_version=4)
    sources = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    figures = [image for image in parsed[chapter.stem].all("img") if image["class"] == "figure"]
    shows = [source for source in sources if re.search(r"plots\.show\(|explore\w*\(", source)]
    assert len(figures) >= len(shows) > 0
    assert "interactive(" not in parsed[chapter.stem].text


def test_a_solution_opens_when_it_is_asked_for(visit):
    opened = visit("00_start_here.html")
    solution = opened.locator("details.solution").first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert "torch.ones(3, 1)" in solution.locator("pre").inner_text()


def test_a_formula_is_drawn_without_a_script(visit):
    opened = visit("07_augmentation.html")
    box = opened.locator(".formula math").first.bounding_box()
    assert box["width"] > 200 and box["height"] > 10


# Finding things


def test_the_search_finds_a_word_and_leads_to_its_chapter(visit, page):
    opened = visit("index.html")
    opened.keyboard.press("Control+k")
    page.see("input[type=search]:focus").fill("broadcasting")
    opened.keyboard.press("Enter")
    page.see("#search-results a[href^='00_start_here.html']").click()
    assert page.see("h1").inner_text().startswith("00 · Start here")
    assert page.errors == []


def test_every_message_that_a_chapter_expects_is_in_the_index(parsed):
    """Where the notebook computes the words to expect, none are known here."""
    listed = " ".join(parsed["messages"].text.split())
    expected = [claim for claim in claims(ROOT) if claim.kind != "assertion" and claim.match]
    assert len(expected) > 100
    missing = [claim for claim in expected if " ".join(claim.match.split()) not in listed]
    assert missing == []


def test_every_message_leads_to_the_heading_of_a_section_that_shows_it(visit, parsed):
    opened = visit("messages.html")
    links = opened.locator("article section section li a").evaluate_all(
        "links => links.map((link) => [link.getAttribute('href'), link.innerText])"
    )
    sections = {(claim.chapter, anchor(rendered(claim.section))) for claim in claims(ROOT)}
    assert len(links) > 100
    headings = {}
    for href, text in links:
        stem, fragment = href.split(".html#")
        if stem not in headings:
            headings[stem] = visit(f"{stem}.html").evaluate(
                """() => Object.fromEntries(
                    [...document.querySelectorAll("section[id]")].map((section) => [
                        section.id, section.querySelector("h1, h2, h3, h4").innerText
                    ]))"""
            )
        heading = headings[stem][fragment].removesuffix("#").strip()
        assert text.endswith(f": {heading}")
        assert (stem, anchor(heading)) in sections


def test_the_index_shows_the_messages_that_hold_the_words_typed_whatever_their_numbers(visit, page):
    opened = visit("messages.html")
    field = opened.get_by_label("Paste or type a message")
    field.fill("RuntimeError: mat1 and mat2 shapes cannot be multiplied (7x7 and 9x9)")
    shown = opened.locator("article li:visible").all_inner_texts()
    assert shown
    assert all("mat1 and mat2 shapes cannot be multiplied" in message for message in shown)
    assert page.see("#message-count").inner_text().startswith(f"{len(shown)} of ")
    field.fill("")
    assert opened.locator("article li:visible").count() > 100


# Looks


def test_the_dark_scheme_is_chosen_by_a_button_and_stays_chosen(visit):
    opened = visit("00_start_here.html")
    assert _lightness(opened) > 200
    for _ in SCHEMES:
        opened.locator(".theme-switch-button").first.click()
        opened.locator("[data-mode=dark].dropdown-item").first.click()
    assert _lightness(opened) < 60
    assert _lightness(visit("recap.html")) < 60


def _lightness(opened) -> int:
    colour = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    return min(map(int, re.findall(r"\d+", colour)[:3]))


def test_a_figure_keeps_its_white_ground_in_the_dark(visit):
    opened = visit("00_start_here.html", "dark")
    style = opened.locator("img.figure").first.evaluate(
        "image => [getComputedStyle(image).backgroundColor, getComputedStyle(image).filter]"
    )
    assert style == ["rgb(255, 255, 255)", "none"]


def test_the_recap_prints_on_few_sheets(visit, parsed):
    headings = [chapter.title for chapter in CHAPTERS if chapter.title in parsed["recap"].text]
    assert headings == [chapter.title for chapter in CHAPTERS]
    printed = visit("recap.html").pdf(prefer_css_page_size=True)
    sheets = len(re.findall(rb"/Type\s*/Page\b(?!s)", printed))
    assert 0 < sheets <= MOST_SHEETS
