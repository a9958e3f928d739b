"""The page of a verification: what it says, that it is sound HTML, and how a real browser shows it."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import html5lib
import jsonschema
import pytest
import verifications
from ansible.errors import AnsibleFilterError
from ansible_collections.exomesh.istio.plugins.filter.verification_page import verification_page
from ansible_collections.exomesh.istio.plugins.modules.mesh_verify import write
from ansible_collections.exomesh.istio.plugins.plugin_utils.page import (
    certificate_clocks,
    html,
    label_of,
    pictures,
)
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / "docs/schema/verification.schema.json").read_text(encoding="utf-8"))
EXAMPLE = json.loads((ROOT / "docs/schema/verification.example.json").read_text(encoding="utf-8"))
HOSTILE = (
    "</title></style></svg><script>document.title='x'</script>"
    "<img src=https://198.51.100.1/x onerror=alert(1)>\"'&{{7*7}}"
)


def hostile() -> dict[str, Any]:
    """A verification in which whatever comes from a cluster wants to be more than text."""
    told = verifications.unhealthy()
    for cluster in told["clusters"]:
        cluster.update(zone=HOSTILE, network=HOSTILE, istio_version=HOSTILE, trust_domain=HOSTILE)
        cluster["gateways"][0].update(name=HOSTILE, addresses=[HOSTILE])
        cluster["certificates"][0].update(subject=HOSTILE, where=HOSTILE)
    for pair in told["pairs"]:
        pair.update(source_identity=HOSTILE, upstream=HOSTILE, answered_by=HOSTILE)
    told["findings"][0].update(evidence=[HOSTILE], next_step=HOSTILE, link="javascript:alert(1)")
    text = json.dumps(told).replace('"gva"', json.dumps(HOSTILE))
    return json.loads(text)


def hub_and_spoke() -> dict[str, Any]:
    """Four clusters of which only the first exchanges secrets with all."""
    told = verifications.healthy(4)
    hub = told["clusters"][0]["name"]
    told["pairs"] = [pair for pair in told["pairs"] if hub in (pair["source"], pair["destination"])]
    return told


def seen_by_nobody() -> dict[str, Any]:
    """Clusters that do not answer: whatever may be unknown is."""
    told = verifications.healthy(2)
    told["mesh"].update(healthy=False, mode="status", roots=[], trust_domains=[], only=["fra"])
    for cluster in told["clusters"]:
        cluster.update(
            zone=None, state="failed", kubernetes_version=None, istio_version=None, trust_domain=None,
            dns_capture=None, clock_skew_seconds=None, istiods=[], gateways=[], certificates=[],
        )  # fmt: skip
    for pair in told["pairs"]:
        pair.update(
            state="unknown", answered_by=None, upstream=None, source_identity=None, destination_identity=None,
            latency=None, rights={},
        )  # fmt: skip
        for check in pair["checks"]:
            check["state"] = "unknown"
    return told


CASES = {
    "1": verifications.healthy(1),
    "2": verifications.healthy(2),
    "3": verifications.healthy(3),
    "6": verifications.healthy(6),
    "7": verifications.healthy(7),
    "12": verifications.healthy(12),
    "20": verifications.healthy(20),
    "unhealthy": verifications.unhealthy(),
    "hub-and-spoke": hub_and_spoke(),
    "unknown": seen_by_nobody(),
    "hostile": hostile(),
    "example": EXAMPLE,
}


def test_the_filter_makes_it_of_what_the_module_writes(tmp_path: Path) -> None:
    write(tmp_path / "reports", EXAMPLE)
    written = json.loads((tmp_path / "reports/verification.json").read_text(encoding="utf-8"))
    assert verification_page(written) == html(EXAMPLE)
    with pytest.raises(AnsibleFilterError, match="This is no verification"):
        verification_page({"mesh": {}})


def text_of(told: dict[str, Any]) -> str:
    """What the page says, without what only a browser reads."""
    body = html5lib.parse(html(told), namespaceHTMLElements=False).find("body")
    return re.sub(r"\s+", " ", " ".join(body.itertext()))


@pytest.mark.parametrize("case", CASES)
def test_is_made_of_the_published_form(case: str) -> None:
    jsonschema.validate(CASES[case], SCHEMA, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("case", CASES)
def test_is_sound_html(case: str) -> None:
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    page = parser.parse(html(CASES[case]))
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for element in page.iter():
        for attribute in ("aria-labelledby", "aria-describedby"):
            assert set((element.get(attribute) or "").split()) <= set(ids)
        if (element.get("href") or "").startswith("#"):
            assert element.get("href")[1:] in ids
    assert len(page.findall(".//h1")) == 1
    assert all(header.get("scope") for header in page.iter("th"))


@pytest.mark.parametrize("case", CASES)
def test_names_nothing_to_load_or_to_run(case: str) -> None:
    page = html5lib.parse(html(CASES[case]), namespaceHTMLElements=False)
    tags = {element.tag for element in page.iter()}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form"}
    assert "@import" not in html(CASES[case])
    assert "url(" not in html(CASES[case])
    for link in page.iter("a"):
        assert link.get("href").startswith(("#", "https://"))
    assert not [name for element in page.iter() for name in element.attrib if name.startswith("on")]


def test_says_what_is_wrong_and_what_to_do() -> None:
    said = text_of(verifications.unhealthy())
    assert "The mesh is not healthy" in said
    assert "2 of 6 pairs do not work. 1 error, 2 warnings." in said
    for finding in verifications.unhealthy()["findings"]:
        for told in (finding["code"], finding["message"], finding["cause"], finding["next_step"]):
            assert told in said
        assert all(line in said for line in finding["evidence"])
    assert said.index("gateway-not-ready") < said.index("certificate-expiring")


def test_says_of_every_pair_how_it_is_in_words() -> None:
    page = html5lib.parse(html(verifications.unhealthy()), namespaceHTMLElements=False)
    matrix = next(table for table in page.iter("table") if "matrix" in table.get("class"))
    rows = [
        ["".join(cell.itertext()).replace("\N{EN DASH}", "").split() for cell in row.findall("*")]
        for row in matrix.find("tbody").findall("tr")
    ]
    assert rows == [
        [["fra"], ["itself"], ["ok", "7.8", "ms"], ["failed", "at", "gateway"]],
        [["vie"], ["warning", "7.8", "ms"], ["itself"], ["failed", "at", "gateway"]],
        [["gva"], ["ok", "11.5", "ms"], ["unknown"], ["itself"]],
    ]


def test_names_the_first_check_that_its_cluster_kept_from_passing() -> None:
    told = verifications.unhealthy()
    for check in told["pairs"][1]["checks"]:
        check["state"] = check["state"].replace("failed", "unknown")
    assert label_of(told["pairs"][1]) == "gateway"


def test_says_that_clusters_are_no_peers() -> None:
    assert text_of(hub_and_spoke()).count("no peers") == 6


def test_says_when_no_requests_were_sent() -> None:
    assert "no requests were sent" in text_of(seen_by_nobody())
    assert "Only pairs that involve fra." in text_of(seen_by_nobody())


def test_a_healthy_mesh_with_warnings_is_not_all_green() -> None:
    told = verifications.unhealthy()
    told["mesh"].update(healthy=True, state="healthy")
    told["findings"] = told["findings"][1:]
    assert '<div class="banner warning">' in html(told)


def test_different_roots_are_all_named() -> None:
    told = verifications.healthy(2)
    told["mesh"]["roots"] = ["AB:01", "CD:02"]
    said = text_of(told)
    assert "different roots are trusted" in said
    assert "AB:01" in said
    assert "CD:02" in said


def test_whatever_is_told_stays_text() -> None:
    said = text_of(hostile())
    assert HOSTILE in said
    assert "{{7*7}}" in said  # and is no template either


@pytest.mark.parametrize(
    ("days_left", "level"),
    [(-1, "ended"), (0, "critical"), (6, "critical"), (7, "warning"), (30, "notice"), (60, "ok")],
)
def test_a_clock_tells_when_a_ca_ends(days_left: int, level: str) -> None:
    cluster = verifications.healthy(2)["clusters"][0]
    cluster["certificates"] = [verifications.certificate("intermediate", "CN=x", 1, 730, days_left)]
    (clock,) = certificate_clocks([cluster])
    assert clock.level == level
    assert 0 <= clock.left <= 1


def test_a_root_that_all_trust_has_one_clock() -> None:
    clocks = certificate_clocks(verifications.healthy(3)["clusters"])
    assert [(clock.role, clock.owners) for clock in clocks] == [
        ("root", ["fra", "vie", "gva"]),
        ("intermediate", ["fra"]),
        ("intermediate", ["vie"]),
        ("intermediate", ["gva"]),
    ]


@pytest.mark.parametrize("count", range(2, 17))
def test_clusters_stand_apart_and_inside_the_picture(count: int) -> None:
    told = verifications.healthy(count)
    for picture in pictures(told["clusters"], told["pairs"]):
        for number, node in enumerate(picture.nodes):
            assert node.left >= 0
            assert node.top >= 0
            assert node.left + node.width <= picture.layout.width
            assert node.top + node.height <= picture.layout.height
            for other in picture.nodes[:number]:
                assert abs(node.x - other.x) >= node.width or abs(node.y - other.y) >= node.height, (
                    f"{picture.kind}: {node.name} over {other.name}"
                )


def test_with_few_clusters_each_pair_has_its_line_and_label() -> None:
    told = verifications.unhealthy()
    for picture in pictures(told["clusters"], told["pairs"]):
        assert sorted(edge.label for edge in picture.edges) == [
            "11.5 ms", "7.8 ms", "7.8 ms", "gateway", "gateway", "unknown",
        ]  # fmt: skip


def test_with_many_clusters_what_is_wrong_stands_out() -> None:
    told = verifications.healthy(12)
    told["pairs"][0]["state"] = "failed"
    picture = pictures(told["clusters"], told["pairs"])[0]
    assert len(picture.edges) == 67  # a line for both ways of 65 pairs, and one for each way of the other
    assert picture.edges[-1].state == "failed"


# In a browser


def shown(browser: Browser, told: dict[str, Any], width: int = 1120, **settings: Any) -> Page:
    """The page, in a browser that fails the test when the page asks for anything."""
    page = browser.new_page(viewport={"width": width, "height": 800}, **settings)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: requests.append(str(error)))
    page.on("dialog", lambda dialog: requests.append(dialog.message))
    page.set_content(html(told), wait_until="load")
    assert requests == []
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1120, 360])
@pytest.mark.parametrize("case", ["7", "unhealthy", "unknown", "hostile"])
def test_has_no_accessibility_violations(browser: Browser, case: str, width: int, scheme: str) -> None:
    page = shown(browser, CASES[case], width, color_scheme=scheme)
    if len(CASES[case]["pairs"]) <= 6:  # more of them take long, and are of the same kind
        page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    page.close()


@pytest.mark.parametrize("case", CASES)
def test_a_phone_does_not_scroll_sideways(browser: Browser, case: str) -> None:
    page = shown(browser, CASES[case], 360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.close()


@pytest.mark.parametrize(("width", "kind"), [(1120, "wide"), (360, "narrow")])
def test_shows_the_picture_that_fits(browser: Browser, width: int, kind: str) -> None:
    page = shown(browser, CASES["3"], width)
    drawn = page.locator("svg.picture:visible")
    assert drawn.count() == 1
    assert kind in (drawn.get_attribute("class") or "")
    box = drawn.bounding_box()
    assert box is not None
    assert box["height"] > 200
    page.close()


TEXTS_THAT_DO_NOT_FIT = """
() => [...document.querySelectorAll('svg.picture')]
  .filter(svg => svg.getBoundingClientRect().width)
  .flatMap(svg => [...svg.querySelectorAll('.label, .name, .line, .address')].filter(text => {
    const own = text.getBoundingClientRect();
    const frame = text.parentNode.querySelector('rect').getBoundingClientRect();
    const all = svg.getBoundingClientRect();
    return own.right > frame.right || frame.left < all.left || frame.right > all.right
      || frame.top < all.top || frame.bottom > all.bottom;
  }))
  .map(text => text.textContent)
"""


def test_labels_fit_and_stay_inside_the_picture(browser: Browser) -> None:
    for width in (1120, 360):
        page = shown(browser, CASES["unhealthy"], width)
        too_wide = page.evaluate(TEXTS_THAT_DO_NOT_FIT)
        assert too_wide == []
        page.close()


def test_follows_the_readers_colours_but_prints_on_white(browser: Browser) -> None:
    def ground(**media: Any) -> list[int]:
        page.emulate_media(**media)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return [int(part) for part in re.findall(r"\d+", colour)]

    page = shown(browser, CASES["3"])
    assert min(ground(color_scheme="light")) > 230
    assert max(ground(color_scheme="dark")) < 40
    assert ground(media="print", color_scheme="dark") == [255, 255, 255]
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


def test_needs_no_script(browser: Browser) -> None:
    told = copy.deepcopy(CASES["unhealthy"])
    page = shown(browser, told, java_script_enabled=False)
    assert page.get_by_role("heading", name="The mesh is not healthy").is_visible()
    assert len(page.screenshot(full_page=True)) > 50_000  # a blank page of this size is below 10 kB
    page.close()


def test_what_could_not_be_told_is_not_green() -> None:
    told = verifications.healthy(2)
    told["mesh"].update(healthy=False, state="unknown")
    finding = {**verifications.unhealthy()["findings"][0], "code": "not-told", "severity": "unknown"}
    told["findings"] = [finding]
    page = html(told)
    assert '<div class="banner unknown">' in page
    assert "Whether the mesh is healthy cannot be told" in page
    assert '<article class="finding unknown">' in page
    assert "0 errors, 1 unknown, 0 warnings" in page
