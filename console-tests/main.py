"""The console in a real browser. `scripts/test console` runs it; with --screenshots DIR it makes the pictures of the docs."""

import pathlib
import sys
import time
from types import SimpleNamespace

import story
from browser import NARROW, TEAM, WIDE, accessible, browser
from lab import Lab
from playwright.sync_api import expect

VIEWS = ["/", "/map", "/deployments", "/d/shop", "/d/shop/db", "/services", "/runners", "/r/aws-1", "/refused", "/audit",
         "/audit?by=alice&result=done", "/search?q=s",
         "/why?from=reports/sales&to=shop/db&port=5432", "/tokens", "/relays", "/act?do=remove-node&node=aws-1",
         "/act?do=give&deployment=shop&caller=no%20name"]


def mesh_of(lab):
    """Three runners; `reports` may not call `shop`."""
    lab.coordinator()
    lab.apply("shop", 'deployment = "shop"\n[services.app]\n[services.db]\n[services.cache]\n')
    lab.apply("billing", 'deployment = "billing"\ntrust = ["shop"]\n[services.api]\n[services.ledger]\n')
    lab.apply("reports", 'deployment = "reports"\n[services.sales]\n')
    for name in ("aws-1", "ovh-1", "home-1"):
        lab.runner(name)
    of = {"db": ("aws-1", "shop/db"), "app": ("ovh-1", "shop/app"), "sales": ("home-1", "reports/sales"), "api": ("ovh-1", "billing/api"), "cache": ("home-1", "shop/cache")}
    mesh = SimpleNamespace(**{name: lab.attach(*where) for name, where in of.items()})
    lab.serve(mesh.db, 5432)
    lab.serve(mesh.api, 8080)
    for _ in range(3):
        lab.hold(mesh.app, mesh.db["service_address"], 5432)
    lab.hold(mesh.app, mesh.api["service_address"], 8080)
    return mesh


def views(opened, token):
    """Every view in light and dark, wide and narrow."""
    for scheme in ("light", "dark"):
        for size in (WIDE, NARROW):
            page = opened.sign_in(token, color_scheme=scheme, viewport=size)
            for path in VIEWS:
                page.goto(TEAM + path)
                accessible(page, f"{path} {scheme} {size['width']}")
            page.context.close()
    page = opened.page(TEAM)
    page.goto(f"{TEAM}/sign-in")
    accessible(page, "/sign-in")


def on_loopback(opened, lab):
    """The link of `mesh-coord console` opens it once."""
    link = lab.console()
    page = opened.page(link.split("/?")[0])
    page.goto(link)
    expect(page.get_by_text("the mesh is whole")).to_be_visible()
    expect(page.locator("#live")).to_have_text("● live")
    assert "?k=" not in page.url


def main():
    directory = pathlib.Path(sys.argv[2]) if sys.argv[1:2] == ["--screenshots"] else None

    def picture(name):
        def take(page):
            if directory:
                page.screenshot(path=directory / f"console-{name}.png")
        return take

    lab, began = Lab(), time.monotonic()

    def done(what):
        print(f"{time.monotonic() - began:5.1f} s  {what}", flush=True)

    try:
        mesh = mesh_of(lab)
        token = lab.coord("token", "create", "--admin", "--name", "alice").strip()
        done("a mesh of three runners")
        with browser() as opened:
            page = opened.sign_in(token)
            story.refused_call(page, lab, mesh)
            picture("why")(page)
            story.give_trust(page, lab, mesh)
            picture("deployment")(page)
            story.take_back(page, lab, mesh, picture("preview"))
            done("a refused call, why, trust given and taken back")
            story.drain(page, lab, mesh)
            story.join(page, lab)
            story.remove(page, lab)
            done("drained, joined, removed")
            story.find(page)
            done("searched, and the audit filtered and taken away as NDJSON")
            page.goto(f"{TEAM}/")
            picture("overview")(page)
            page.goto(f"{TEAM}/map")
            picture("map")(page)
            page.context.close()
            story.by_keyboard(opened.page(TEAM), token)
            done("by keyboard alone")
            story.without_script(opened.sign_in(token, java_script_enabled=False))
            done("without JavaScript")
            on_loopback(opened, lab)
            views(opened, token)
            done(f"{len(VIEWS)} views in light and dark, wide and narrow: axe finds nothing")
    finally:
        lab.end()
    print("test result: ok. 1 passed; 0 failed")


main()
