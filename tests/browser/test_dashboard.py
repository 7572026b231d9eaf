"""The four pages in a real browser, while a federation comes into being and trains.

The tests are one story and run in their order: nobody there, sites, a run that ended, a run that goes on.
"""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from harness import free_port
from hospital import SITES, Hospital
from pages import KEPT, PAGES, Look, NoBrowser, chromium, tab

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed; `make browser` does that")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

pytestmark = pytest.mark.browser
expect.set_options(timeout=20_000)  # of what no event tells it, a page asks again some seconds later
MOST_BYTES = 200_000
TOKEN = 2 * "fedcba9876543210"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as found:
            yield found
    except NoBrowser as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    root = tmp_path_factory.mktemp("dashboard") / "all"
    root.mkdir()
    made = Hospital(root, free_port())
    made.ok("init", made.operator, "--host", "localhost", "--port", str(made.port), "--federation", "cardio")
    made.begin()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def look(browser: Browser, hospital: Hospital) -> Iterator[Look]:
    with tab(browser, hospital.address) as found:
        yield found
        assert not found.complaints, json.dumps(found.complaints, indent=1)


def accessible(page: Page) -> None:
    """No violation that axe knows, and no words that only a program would say."""
    said = page.locator("body").inner_text()
    for word in ("[object", "undefined", "NaN", "null"):
        assert word not in said, word
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def documented(hospital: Hospital, run: str) -> dict[str, Any]:
    return hospital.operate("run", "show", run)


@pytest.mark.parametrize("name", PAGES)
def test_a_nobody_there(look: Look, name: str) -> None:
    """Empty states say how to get the first thing."""
    page = look.go(name)
    expect(page.locator(".card, .facts").first).to_be_visible()
    wanted = {"now": "unisono token create", "federation": "unisono token create"}.get(
        name, "unisono run start"
    )
    expect(page.locator("main")).to_contain_text(wanted)
    accessible(page)


def test_b_what_a_page_costs(look: Look) -> None:
    sizes: list[int] = []
    look.page.on(
        "response", lambda answer: sizes.append(len(answer.body())) if "events" not in answer.url else None
    )
    look.go("progress")
    look.page.wait_for_timeout(300)
    whole = sum(sizes) + 55_000  # uPlot is fetched with the first curve
    assert whole <= MOST_BYTES, whole
    paint = look.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"dashboard: {whole} bytes, first paint after {paint:.0f} ms")
    hosts = {
        answer.split("/")[2]
        for answer in look.page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    }
    assert hosts == {look.address.split("/")[2]}, "works offline: nothing comes from elsewhere"


def test_c_sites_join_and_train(look: Look, hospital: Hospital) -> None:
    page = look.go("federation")
    hospital.site_joins(*SITES)
    hospital.token("clinic-e", "--ttl", "24h")
    for site in SITES:  # without a reload
        expect(page.get_by_role("row", name=site).get_by_text("online")).to_be_visible()
    expect(page.get_by_role("row", name="clinic-e")).to_contain_text("1 of 1")
    page = look.go("progress")
    first = hospital.train(8, seconds=0.1, rate=0.5)
    ended = first.finished(60)
    shown = documented(hospital, ended["id"])
    expect(page.locator("tbody tr")).to_have_count(8)  # without a reload
    cells = page.locator("section.card tbody tr").all_inner_texts()
    for row, text in zip(reversed(shown["rounds"]), cells, strict=True):
        told = text.split("\t")
        assert told[0] == str(row["round"])
        assert told[1:3] == [f"{row['metrics'][name]:.4f}" for name in ("accuracy", "loss")]
        assert told[6] == f"{len(row['survivors'])} of {len(row['cohort'])}"
        assert told[7] == str(row["attempts"])
        assert told[9] == row["model_sha256"][:12]
    best = max(shown["rounds"], key=lambda row: row["metrics"]["accuracy"])
    expect(page.locator("main")).to_contain_text("8 of 8 rounds · all 8 rounds are done")
    words = f"highest {best['metrics']['accuracy']:.4f} in round {best['round']}"
    expect(page.locator("figure", has_text="accuracy").locator("figcaption")).to_contain_text(words)
    accessible(page)


def test_d_the_card_of_a_run_that_ended(look: Look, hospital: Hospital) -> None:
    shown = documented(hospital, "r-0001")
    page = look.go("now")
    card = page.get_by_role("article", name="last run r-0001")
    expect(card).to_contain_text("finished")
    expect(card).to_contain_text(f"{shown['rounds'][-1]['metrics']['accuracy']:.4f}")
    accessible(page)


@pytest.mark.parametrize(("name", "what"), [("now", "article"), ("progress", "canvas")])
def test_d_what_could_not_be_asked_is_asked_again(
    look: Look, hospital: Hospital, name: str, what: str
) -> None:
    """A question that fails once, as when the coordinator goes just then, leaves no page empty for good."""
    failed: list[str] = []

    def once(route: Route) -> None:
        if failed:
            route.continue_()
        else:
            failed.append(route.request.url)
            route.abort()

    look.page.route("**/api/v1/runs/*/rounds", once)
    page = look.go(name)
    expect(page.get_by_role("alert")).to_contain_text("Something could not be shown")
    expect(page.locator(what).first).to_be_visible(timeout=20_000)
    expect(page.get_by_role("alert")).to_have_count(0)
    look.complaints[:] = [said for said in look.complaints if "ERR_FAILED" not in said]


def test_e_a_run_that_goes_on(look: Look, hospital: Hospital, browser: Browser) -> None:
    hospital.train(6, seconds=2.5, rate=0.25)
    page = look.go("now")
    card = page.get_by_role("article", name="r-0002 readmission")
    expect(card.locator(".clients li", has_text="hospital-a")).to_contain_text("%", timeout=15_000)
    expect(card.locator("[aria-current=step]")).to_have_text("Train and upload")
    expect(card).to_contain_text("round 2 of 6", timeout=20_000)  # live, without a reload
    sentence = card.locator(".sentence")
    expect(sentence).to_contain_text("waiting for")
    accessible(page)
    stopped = next(p for p in hospital.processes if p.log.name.endswith("clinic-d.log"))
    os.killpg(stopped.popen.pid, signal.SIGSTOP)
    try:
        silent = card.locator(".clients li", has_text="clinic-d")
        expect(silent).to_contain_text("silent for", timeout=20_000)
        expect(silent).to_contain_text("unless it moves")
        accessible(page)
        keep(page, "now")
        for scheme, name, width in (("dark", "now-dark", 1200), ("light", "now-phone", 390)):
            with tab(browser, hospital.address, scheme=scheme, width=width) as other:
                other.go("now")
                expect(other.page.locator(".clients")).to_contain_text("silent for")
                accessible(other.page)
                keep(other.page, name)
                assert not other.complaints
    finally:
        os.killpg(stopped.popen.pid, signal.SIGCONT)
    hospital.watches[-1].finished(60)
    expect(page.get_by_role("article", name="last run r-0002")).to_be_visible()


def test_f_two_runs_over_each_other(look: Look, hospital: Hospital, browser: Browser) -> None:
    page = look.go("progress", "?run=r-0001&with=r-0002")
    expect(page.get_by_role("table", name="r-0001 and r-0002")).to_be_visible()
    expect(page.locator(".plot canvas")).to_have_count(2)
    page.locator(".plot .u-over").first.hover(position={"x": 300, "y": 80})
    expect(page.locator(".readout").first).to_contain_text("r-0002")
    accessible(page)
    keep(page, "progress")
    with tab(browser, hospital.address, scheme="dark", width=390) as phone:
        phone.go("progress", "?run=r-0001")
        expect(phone.page.locator(".plot canvas")).to_have_count(2)
        accessible(phone.page)
        wide = phone.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, "a phone need not be pushed sideways"


def test_g_federation_and_what_left(look: Look, hospital: Hospital) -> None:
    page = look.go("federation")
    row = page.get_by_role("row", name="hospital-a")
    expect(row).to_contain_text("online")
    digest = page.locator(".digest")
    expect(digest).to_be_visible()
    assert len(digest.inner_text().replace("\n", "").replace(" ", "")) == 64
    page.get_by_label("Find").fill("clinic")
    expect(page.get_by_role("row", name="hospital-a")).to_have_count(0)
    page.get_by_label("Find").fill("")
    accessible(page)
    keep(page, "federation")
    page = look.go("left-the-sites", "?run=r-0001")
    shown = documented(hospital, "r-0001")
    expect(page.get_by_role("table", name="Releases").locator("tbody tr")).to_have_count(
        len(shown["rounds"]) + 1
    )
    expect(page.locator("main")).to_contain_text("closing evaluation, metrics only")
    audit = asked(hospital, "/api/v1/audit?limit=1")
    assert page.locator(".digest").inner_text().replace("\n", "") == audit["head"]
    expect(page.locator("main")).to_contain_text("no differential privacy")
    accessible(page)
    keep(page, "left-the-sites")


def test_h_what_others_wrote_is_text(look: Look, hospital: Hospital) -> None:
    """Even if a document held markup, it would be shown, not run."""
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    row = {
        "name": evil,
        "number": 1,
        "state": evil,
        "last_seen": 1.0,
        "not_after": 2e9,
        "tasks": [evil],
        "software": evil,
        "signing_spki_sha256": evil,
    }
    look.page.route("**/api/v1/clients", lambda route: route.fulfill(json={"clients": [row]}))
    look.page.on("dialog", lambda dialog: look.complaints.append(f"ran: {dialog.message}"))
    page = look.go("federation")
    expect(page.locator("main")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("main img, main script").count() == 0


def test_i_a_crowd_and_many_rounds(look: Look) -> None:
    """1 000 clients and 500 rounds; long tasks are told, not asserted: this machine may be busy."""
    clients = [
        {
            "name": f"site-{n:04}",
            "number": n,
            "state": "online",
            "last_seen": 1.0,
            "not_after": 2e9,
            "tasks": ["x"],
            "software": "0.1.0",
            "signing_spki_sha256": "0" * 64,
        }
        for n in range(1000)
    ]
    done = {row["name"]: {"updates": 500, "bytes": 10**9, "dropouts": 3} for row in clients}
    rounds = [
        {
            "round": n,
            "attempts": 1,
            "cohort": 1000,
            "survivors": 990,
            "seconds": 1.0,
            "metrics": {"loss": 1 / n, "accuracy": 1 - 1 / n},
            "bytes_in": 10**9,
            "bytes_out": 10**9,
            "model_sha256": "0" * 64,
            "published": 1e9,
            "reasons": [["site-0001", "silent for 60 s"]],
            "reasons_count": 10,
            "failures": [],
        }
        for n in range(1, 501)
    ]
    look.page.route("**/api/v1/clients", lambda route: route.fulfill(json={"clients": clients}))
    look.page.route("**/api/v1/participation", lambda route: route.fulfill(json={"clients": done}))
    look.page.route("**/rounds", lambda route: route.fulfill(json={"id": "r-0001", "rounds": rounds}))
    page = look.go("federation")
    expect(page.get_by_text("1 to 50 of 1000 rows")).to_be_visible()
    page.get_by_role("button", name="Drop-outs").click()
    page.get_by_label("Find").fill("site-09")
    expect(page.get_by_text("1 to 50 of 100 rows")).to_be_visible()
    federation = page.evaluate("window.longTasks")
    page = look.go("progress")
    expect(page.get_by_text("1 to 25 of 500 rows")).to_be_visible()
    progress = page.evaluate("window.longTasks")
    for name, found in (("1000 clients", federation), ("500 rounds", progress)):
        print(f"dashboard, {name}: longest task {max(found, default=0):.0f} ms")


def test_j_the_keyboard_reaches_everything(look: Look) -> None:
    page = look.go("now")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    names = []
    for _ in range(4):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent"))
    assert names == ["Now", "Progress", "Federation", "Left the sites"]
    page.keyboard.press("Enter")
    page.wait_for_url("**/left-the-sites")


def test_k_the_coordinator_restarts_and_asks_for_a_token(look: Look, hospital: Hospital) -> None:
    """The page says that nobody answers, goes on by itself, and has a form for the token."""
    page = look.go("now")
    coordinator = next(p for p in hospital.processes if p.log.name.endswith("coordinator.log"))
    token = hospital.root / "ops.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    hospital.environment["UNISONO_OPS_PORT"] = hospital.address.rpartition(":")[2]
    assert coordinator.stop() == 0
    expect(page.locator("#live-words")).to_contain_text("trying again")
    hospital.environment["UNISONO_OPS_TOKEN_FILE"] = str(token)
    hospital.serve()
    asking = page.get_by_role("dialog", name="This coordinator asks for a token")
    expect(asking).to_be_visible(timeout=20_000)
    accessible(page)
    asking.get_by_label("Token").fill("not this one, surely")
    asking.get_by_role("button").click()
    expect(asking.get_by_role("alert")).to_have_text("That is not the token.")
    asking.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#live-words")).to_have_text("live", timeout=20_000)
    expect(page.get_by_role("article", name="last run r-0002")).to_be_visible()
    assert TOKEN not in page.content()
    expected = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE", "ERR_CONNECTION_RESET", "401")
    look.complaints[:] = [said for said in look.complaints if not any(word in said for word in expected)]


def asked(hospital: Hospital, way: str) -> dict[str, Any]:
    with urllib.request.urlopen(hospital.address + way, timeout=10) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
        return found


def keep(page: Page, name: str) -> None:
    KEPT.mkdir(exist_ok=True)
    time.sleep(0.3)
    page.screenshot(path=KEPT / f"dashboard-{name}.png", full_page=True)
