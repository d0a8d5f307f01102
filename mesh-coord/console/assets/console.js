// Renews what has changed on a page while it is looked at. Without this script, a page is as of its load.
"use strict";

const shown = document.querySelector("main[data-every]");
const told = document.getElementById("live");
let last = new Date();

function tell(text, state) {
  if (!told) return;
  told.textContent = text;
  told.dataset.state = state;
}

// Whether the operator is at work in this part of the page.
function inUse(part) {
  if (part.querySelector("[data-still]") || part.matches("[data-still]")) return true;
  const active = document.activeElement;
  return part.contains(active) && active.matches("input, select, textarea");
}

// What has the focus, so that its successor can be found.
function trace(part) {
  const active = document.activeElement;
  if (active === part || !part.contains(active)) return null;
  const href = active.getAttribute("href");
  return active.id ? "#" + CSS.escape(active.id) : href ? `[href="${CSS.escape(href)}"]` : null;
}

function replace(old, fresh) {
  if (old.isEqualNode(fresh) || inUse(old)) return;
  const focus = trace(old);
  const scrolled = old.scrollLeft;
  const node = document.importNode(fresh, true);
  old.replaceWith(node);
  node.scrollLeft = scrolled;
  if (focus) node.querySelector(focus)?.focus({ preventScroll: true });
}

function renewed(page) {
  const fresh = page.querySelector("main");
  const parts = [...fresh.children].filter((part) => !part.matches(".notice"));
  const olds = [...shown.children].filter((part) => !part.matches(".notice"));
  const same = olds.length === parts.length && olds.every((old, n) => old.tagName === parts[n].tagName && old.id === parts[n].id);
  if (same) olds.forEach((old, n) => replace(old, parts[n]));
  else if (!olds.some(inUse)) shown.replaceChildren(...parts.map((part) => document.importNode(part, true)));
  // A page that waits for something asks more often.
  if (fresh.dataset.every) shown.dataset.every = fresh.dataset.every;
}

async function renew() {
  if (document.hidden || String(getSelection()) !== "") return;
  try {
    const answer = await fetch(location.href, { credentials: "same-origin", redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.status === 401) {
      tell("✖ the session has ended: load the page again", "refused");
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    renewed(new DOMParser().parseFromString(await answer.text(), "text/html"));
    last = new Date();
    tell("● live", "live");
  } catch {
    // What is shown stays.
    tell(`▲ as of ${last.toLocaleTimeString()}`, "draining");
  }
}

async function forever() {
  for (;;) {
    await new Promise((resume) => setTimeout(resume, 1000 * Number(shown.dataset.every)));
    await renew();
  }
}

if (shown) {
  tell("● live", "live");
  forever();
}
