// Renews the content of a page every five seconds while it is looked at. Without it, a page is as of its load.
"use strict";

const EVERY = 5000;

async function renew() {
  const shown = document.querySelector("main[data-live]");
  const busy = document.hidden || !shown || shown.contains(document.activeElement) && document.activeElement !== shown;
  if (busy || String(getSelection()) !== "") return;
  try {
    const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("main[data-live]");
    if (fresh) shown.replaceChildren(...document.adoptNode(fresh).childNodes);
  } catch {
    // The console has ended, or the network is away: what is shown stays.
  }
}

setInterval(renew, EVERY);
