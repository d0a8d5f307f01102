# shellcheck shell=bash
# A browser and what drives it, for `scripts/test console`. Nothing of it is in the repository. Sourced, not run.

browser_tools=$PWD/target/console-tests

# Debian's names for it, the smaller one first. (`command -v` would find this function, too.)
chromium() { type -P chromium-headless-shell || type -P chromium; }

# Prints why no page can be opened in a browser here, and on a second line what to do about it; nothing if one can. Root
# on a system with apt gets the browser installed; Playwright and axe come into target/ by pip.
why_no_browser() {
    local python said
    if ! chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing chromium-headless-shell"
        install_unstarted chromium-headless-shell python3-venv >/dev/null 2>&1
    fi
    if ! chromium >/dev/null; then
        echo "there is no Chromium"
        echo "as root: apt-get install chromium-headless-shell (or what your distribution calls it)"
        return
    fi
    mkdir -p "$browser_tools"
    python=$(command -v python3) || python=python3
    if ! cmp -s console-tests/requirements.txt "$browser_tools/venv/installed"; then
        say "installing Playwright and axe"
        if ! said=$("$python" -m venv --clear "$browser_tools/venv" 2>&1 &&
            "$browser_tools/venv/bin/pip" install --quiet --disable-pip-version-check -r console-tests/requirements.txt 2>&1); then
            echo "no Playwright and axe: ${said//$'\n'/ }"
            echo "they come from PyPI, which needs python3 with venv: apt-get install python3-venv"
            return
        fi
        cp console-tests/requirements.txt "$browser_tools/venv/installed"
    fi
}

# Where pip has put axe's script.
axe() { compgen -G "$browser_tools/venv/lib/python3*/site-packages/axe_playwright_python/axe.min.js"; }
