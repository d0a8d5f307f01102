"""What an operator does, step by step: in the browser, with the mesh beside it."""

import json
import re

from playwright.sync_api import expect

from browser import TEAM
from lab import until


def refused_call(page, lab, mesh):
    """A refused call appears while the page is looked at, and is explained."""
    page.get_by_role("link", name="Refused", exact=True).click()
    assert not lab.calls(mesh.sales, mesh.db["service_address"], 5432)
    row = page.get_by_role("row").filter(has_text="reports/sales").filter(has_text="shop/db")
    expect(row).to_be_visible()
    row.get_by_role("link", name="Why reports/sales and shop/db").click()
    expect(page.locator('[data-state="deny"]')).to_be_visible()


def give_trust(page, lab, mesh):
    """From the explanation to trust that is in force everywhere, and the call succeeds."""
    page.get_by_role("link", name="Give trust to reports in shop").click()
    expect(page.get_by_text("reports may now call shop")).to_be_visible()
    assert not lab.calls(mesh.sales, mesh.db["service_address"], 5432), "a preview changes nothing"
    page.get_by_role("button", name="Give trust").click()
    expect(page.get_by_role("status")).to_contain_text("Done: reports may now call shop")
    expect(page.locator("#force")).to_contain_text("● In force 3/3")
    assert lab.calls(mesh.sales, mesh.db["service_address"], 5432)
    lab.hold(mesh.sales, mesh.db["service_address"], 5432)


def take_back(page, lab, mesh, picture=None):
    """The preview knows of the connection; afterwards it is gone."""
    address = page.url

    def known():
        page.goto(address)
        page.get_by_role("link", name="Take back the trust in reports").click()
        return page.get_by_text("in use: reports/sales → shop/db").count()

    until("the connection in the preview", known)
    expect(page.get_by_text(re.compile(r"[1-9]\d* connections? would end"))).to_be_visible()
    if picture:
        picture(page)
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_role("status")).to_contain_text("reports may no longer call shop")
    expect(page.locator("#force")).to_contain_text("● In force")
    assert not lab.calls(mesh.sales, mesh.db["service_address"], 5432)


def drain(page, lab, mesh):
    page.goto(f"{TEAM}/d/shop/db")
    page.get_by_role("link", name=f"Drain {mesh.db['id']}").click()
    page.get_by_role("button", name="Drain it").click()
    expect(page.locator('[data-state="draining"]')).to_be_visible()
    until("the end of new connections", lambda: not lab.calls(mesh.app, mesh.db["service_address"], 5432))
    page.get_by_role("link", name=f"Undrain {mesh.db['id']}").click()
    page.get_by_role("button", name="Undrain it").click()
    until("new connections", lambda: lab.calls(mesh.app, mesh.db["service_address"], 5432))


def join(page, lab):
    """A machine joins by the line that is shown once."""
    page.get_by_role("link", name="Tokens", exact=True).click()
    page.get_by_label("Name", exact=True).fill("for the browser's test")
    page.get_by_role("button", name="Make the token").click()
    line = page.locator("#line").inner_text()
    page.reload()
    expect(page.get_by_text("was shown already")).to_be_visible()
    lab.machine("late-1")
    lab.join("late-1", line)
    page.get_by_role("link", name="Runners", exact=True).click()
    expect(page.get_by_role("link", name="late-1")).to_be_visible()


def remove(page, lab):
    """What can't be undone asks for the name."""
    page.get_by_role("link", name="late-1").click()
    page.get_by_role("link", name="Remove late-1").click()
    page.get_by_role("textbox").fill("late-2")
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing has changed")
    page.get_by_role("textbox").fill("late-1")
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("status")).to_contain_text("removed for good")
    until("its end", lambda: not any(n["name"] == "late-1" and n["state"] == "online" for n in lab.nodes()))


def find(page):
    """The box above every page finds by parts; the audit's filters stay, and all of it can be taken away."""
    page.get_by_label("Service, runner or address").fill("aws")
    page.get_by_role("button", name="Search").click()
    page.locator("#found").get_by_text("found for «aws»").wait_for()
    page.get_by_role("link", name="aws-1").click()
    expect(page.get_by_role("heading", name="aws-1")).to_be_visible()
    page.get_by_role("link", name="Audit", exact=True).click()
    page.get_by_label("Who").fill("alice")
    page.get_by_label("Action").fill("trust")
    page.get_by_role("button", name="Find").click()
    rows = page.get_by_role("table").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("shop")
    link = page.get_by_role("link", name="All of them as NDJSON")
    # A headless shell may refuse downloads: the same cookie fetches the file.
    got = page.request.get(link.evaluate("link => link.href"))
    assert got.ok, got.status
    lines = got.text().splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["trust", "trust"], lines


def without_script(page):
    """Everything that is done above is done by forms and links alone."""
    page.goto(f"{TEAM}/d/shop")
    page.get_by_label("Caller").fill("reports")
    page.get_by_role("button", name="Show the effect").click()
    page.get_by_role("button", name="Give trust").click()
    # A page that is still being left can't be loaded again.
    page.locator("#force").wait_for()
    page.wait_for_load_state()
    until("trust in force", lambda: page.reload() and "In force 3/3" in page.locator("#force").inner_text())
    page.get_by_role("link", name="Take back the trust in reports").click()
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_role("status")).to_contain_text("reports may no longer call shop")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in to mesh")).to_be_visible()


def tab_until(page, name, *places):
    """Goes on by the Tab key alone until one of these places has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if any(place.count() for place in places):
            return
    raise AssertionError(f"the keyboard doesn't reach {name}")


def tab_to(page, name):
    """Goes to a link or button."""
    text = page.locator("a:focus, button:focus").filter(has_text=name)
    tab_until(page, name, text, page.locator(f':focus[aria-label="{name}"]'))


def by_keyboard(page, token):
    """Signs in, walks through the map, and gives trust and takes it back."""
    page.goto(f"{TEAM}/")
    page.keyboard.press("Tab")
    page.keyboard.type(token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    tab_to(page, "Map")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Map")).to_be_visible()
    tab_to(page, "shop")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="shop", exact=True)).to_be_visible()
    tab_until(page, "the caller", page.locator(':focus[name="caller"]'))
    page.keyboard.type("reports")
    page.keyboard.press("Enter")
    expect(page.get_by_text("reports may now call shop")).to_be_visible()
    tab_to(page, "Give trust")
    page.keyboard.press("Enter")
    expect(page.locator("#force")).to_contain_text("In force 3/3")
    tab_to(page, "Take back the trust in reports")
    page.keyboard.press("Enter")
    tab_to(page, "Take it back")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("reports may no longer call shop")
