"""The browser: every page in it is watched, and can be checked."""

import json
import os
import pathlib
from contextlib import contextmanager

from playwright.sync_api import expect, sync_playwright

AXE = pathlib.Path(os.environ["AXE"]).read_text()
TEAM = "https://127.0.0.1:8443"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
expect.set_options(timeout=30_000)


class Browser:
    def __init__(self, playwright):
        self.engine = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
        self.complaints = []

    def page(self, origin, **options):
        """A page of a browser without memory, which may speak with `origin` and nothing else."""
        context = self.engine.new_context(ignore_https_errors=True, viewport=options.pop("viewport", WIDE), **options)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(f"{page.url}: {said.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("request", lambda sent: sent.url.startswith(origin) or self.complaints.append(f"{page.url} asks for {sent.url}"))
        return page

    def sign_in(self, token, **options):
        """A page of a session at the team's console."""
        page = self.page(TEAM, **options)
        page.goto(f"{TEAM}/")
        page.get_by_label("Admin token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        return page


@contextmanager
def browser():
    with sync_playwright() as playwright:
        opened = Browser(playwright)
        yield opened
        opened.engine.close()
        assert not opened.complaints, "\n".join(opened.complaints)


def evaluate(page, expression):
    """Evaluates beside the page's policy, which stays in force."""
    session = page.context.new_cdp_session(page)
    answer = session.send("Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True})
    session.detach()
    assert "exceptionDetails" not in answer, answer
    return answer["result"].get("value")


def accessible(page, what):
    """axe finds nothing, and nothing sticks out of the window."""
    evaluate(page, AXE)
    found = evaluate(page, "axe.run().then(r => JSON.stringify(r.violations.map(v => [v.id, v.help, v.nodes.map(n => n.html)])))")
    assert json.loads(found) == [], f"{what}: {found}"
    wide = evaluate(page, "document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{what}: {wide} pixels stick out"
