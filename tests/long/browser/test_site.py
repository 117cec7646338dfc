"""The site of all chapters: its links, and one page of each kind in the browser.

What the site's builder makes of a notebook is tested in ``tests/long/tools/test_site.py``.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from docutils.nodes import make_id

from chapters import CHAPTERS
from helpers import checkout, explain
from tests.long.browser import looks
from tools import site as builder
from tools.claims import claims
from tools.site.markdown import rendered

ROOT = checkout.root()
NAMES = ["index", *(chapter.stem for chapter in CHAPTERS), "messages", "recap", "search"]
CHAPTER = "02_losses"
KINDS = ["index", CHAPTER, "messages", "recap"]
MOST_SHEETS = 4  # of paper, for the recap of all chapters

pytestmark = pytest.mark.xdist_group("site")  # it is built by one process


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site") / "html"
    builder.build(ROOT, folder)
    return folder


# Links and texts, without a browser


class Parsed(HTMLParser):
    """The elements of a page, each as its name and its attributes, and the page's text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.anchors = {attributes.get("id") for _, attributes in self.elements}

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, *tags: str) -> Iterator[dict[str, str | None]]:
        return (attributes for tag, attributes in self.elements if tag in tags)


@pytest.fixture(scope="session")
def parsed(site):
    """Each page of the site, by its name."""
    return {name: Parsed((site / f"{name}.html").read_text("utf-8")) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_and_source_of_a_page_leads_to_something(site, parsed, name):
    page = parsed[name]
    places = [a["href"] for a in page.all("a", "link") if "href" in a]
    places += [a["src"] for a in page.all("img", "script") if "src" in a]
    assert len(places) > 10
    assert [place for place in places if not leads_to_something(place, name, site, parsed)] == []


def leads_to_something(place: str, name: str, site: Path, parsed: dict[str, Parsed]) -> bool:
    if re.match(r"\w[\w+.-]*:", place):
        return place.startswith(("https://", "data:image/png;base64,"))  # a picture in the page
    path, _, fragment = unquote(place).partition("#")
    path = path.partition("?")[0] or f"{name}.html"
    if not (site / path).exists():
        return False
    return not fragment or fragment in parsed[path.removesuffix(".html")].anchors


def test_a_link_that_leads_nowhere_is_found(site, parsed):
    places = ["99_none.html", "#nowhere", "recap.html#nowhere", "http://plain.test", "index.html"]
    found = [leads_to_something(place, "index", site, parsed) for place in places]
    assert found == [False, False, False, False, True]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_texts_for_its_images_no_frame_and_no_path_of_this_machine(site, parsed, name):
    page = parsed[name]
    assert [image for image in page.all("img") if not (image["alt"] or "").strip()] == []
    assert list(page.all("iframe")) == []
    assert [path for path in (ROOT, Path.home(), site) if f"{path}{os.sep}" in page.text] == []


def test_the_front_page_leads_to_all_others(parsed):
    linked = {link.get("href") for link in parsed["index"].all("a")}
    assert {f"{name}.html" for name in NAMES if name not in ("index", "search")} <= linked


def test_every_message_that_a_chapter_expects_is_in_the_index_under_its_section(parsed):
    known = claims(ROOT)
    words = [" ".join(claim.match.split()) for claim in known if claim.match]
    listed = " ".join(parsed["messages"].text.split())
    assert len(words) > 100
    assert [one for one in words if one not in listed] == []

    places = {(one.chapter, one.section) for one in known}
    places |= {tuple(it.split("#", 1)) for entry in explain.entries() for it in entry.where}
    sections = {f"{stem}.html#{make_id(rendered(section))}" for stem, section in places}
    links = {unquote(link.get("href") or "") for link in parsed["messages"].all("a")}
    to_sections = {link for link in links if link.partition(".html#")[0] in NAMES}
    assert len(to_sections) > 50
    assert to_sections <= sections


# Pages in the browser


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
        page.page.goto(f"{url}/{name}.html")
        return page.page

    return visit_


@pytest.mark.parametrize("name", KINDS)
def test_a_page_shows_all_its_pictures_and_asks_nobody_else(visit, page, name):
    undrawn = visit(name).evaluate(
        """async () => {
            const images = [...document.images];
            for (const image of images) image.loading = "eager";
            await Promise.allSettled(images.map((image) => image.decode()));
            return images.filter((image) => !image.naturalWidth).map((image) => image.src);
        }"""
    )
    assert undrawn == page.errors == page.elsewhere == []


# A colour on its way to another one is judged by its end.
AT_ONCE = "*, ::before, ::after { transition: none !important; animation: none !important; }"


@pytest.mark.parametrize("name", KINDS)
def test_axe_finds_no_serious_fault_in_light_and_dark(visit, name):
    assert looks.faults(visit(name)) == []
    for scheme in ("light", "dark"):
        opened = visit(name, scheme)
        opened.add_style_tag(content=AT_ONCE)
        opened.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
        assert opened.evaluate("document.documentElement.dataset.theme") == scheme
        assert looks.too_faint(opened, "body") == []


@pytest.mark.parametrize("name", KINDS)
def test_a_page_fits_a_screen_of_400_pixels(visit, name):
    opened = visit(name, width=400)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    beyond = opened.evaluate(
        """() => [...document.querySelectorAll("article p, article li, article h1, article h2")]
            .filter((part) => !part.closest("table"))  // which scrolls by itself
            .filter((part) => part.getBoundingClientRect().right > 400 && part.innerText)
            .map((part) => part.innerText)"""
    )
    assert beyond == []


def test_a_solution_opens_when_it_is_asked_for(visit):
    solution = visit(CHAPTER).locator("details.solution").first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").is_visible()


def test_the_search_finds_a_word_and_leads_to_its_chapter(visit, page):
    opened = visit("index")
    opened.keyboard.press("Control+k")
    opened.locator("input[type=search]:focus").fill("broadcasting")
    opened.keyboard.press("Enter")
    opened.locator("#search-results a[href^='00_start_here.html']").first.click()
    opened.locator("h1:visible", has_text="00 · Start here").wait_for()
    assert page.errors == []


def test_every_message_of_the_index_has_a_cause_and_a_fix(visit):
    items = visit("messages").locator("article section section li")
    assert items.count() == items.locator("[data-entry]").count()


@pytest.mark.parametrize(
    ("pasted", "found"),
    [
        (
            'Traceback (most recent call last):\n  File "D:\\new\\train.py", line 3, in <module>\n'
            "RuntimeError: mat1 and mat2 shapes cannot be multiplied (7x7 and 9x9)",
            "mat1 and mat2 shapes cannot be multiplied",
        ),
        (
            "Error(s) in loading state_dict for ResNet:\n\tsize mismatch for fc.weight: copying a "
            "param with shape torch.Size([9, 9]) from checkpoint, the shape in current model is "
            "torch.Size([2, 9]).",
            "size mismatch for",
        ),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB", "CUDA out of"),
        ("mat1 cannot multiplied", "mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_the_index_finds_a_pasted_traceback_and_what_holds_the_words_typed(visit, pasted, found):
    opened = visit("messages")
    field = opened.get_by_label("Paste a message")
    field.fill(pasted)
    shown = opened.locator("article li:visible").all_inner_texts()
    assert shown
    assert all(found in message for message in shown)
    assert opened.locator("#message-count").inner_text().startswith(f"{len(shown)} of ")
    field.fill("KeyError: 'lr of mine'")
    assert opened.locator("article li:visible").count() == 0
    field.fill("")
    assert opened.locator("article li:visible").count() > 100


def test_the_dark_scheme_is_chosen_by_a_button_and_stays_and_figures_keep_their_white(visit):
    opened = visit(CHAPTER)
    assert lightness(opened, "body") > 200
    opened.locator(".theme-switch-button:visible").first.click()
    opened.locator("[data-mode=dark].dropdown-item:visible").first.click()
    opened.add_style_tag(content=AT_ONCE)
    assert lightness(opened, "body") < 60
    assert lightness(opened, "img.figure") == 255
    assert lightness(visit("recap"), "body") < 60


def lightness(opened, selector) -> int:
    colour = opened.locator(selector).first.evaluate("it => getComputedStyle(it).backgroundColor")
    return min(map(int, re.findall(r"\d+", colour)[:3]))


def test_the_recap_prints_on_few_sheets_and_no_table_is_cut_off(visit, parsed):
    headings = [chapter.title for chapter in CHAPTERS if chapter.title in parsed["recap"].text]
    assert headings == [chapter.title for chapter in CHAPTERS]
    recap = visit("recap", width=703)  # an A4 sheet between its margins
    printed = recap.pdf(prefer_css_page_size=True)
    sheets = len(re.findall(rb"/Type\s*/Page\b(?!s)", printed))
    assert 0 < sheets <= MOST_SHEETS
    recap.emulate_media(media="print")
    too_wide = recap.locator("#recap table").evaluate_all(
        """tables => tables
            .filter(it => [...it.getClientRects()].some(
                part => part.width > it.closest("section").clientWidth + 1))
            .map(it => it.innerText.slice(0, 40))"""
    )
    assert too_wide == []
