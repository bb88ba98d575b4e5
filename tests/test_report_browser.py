"""The report in a real browser: no error in its console, no request, nothing wider than the screen."""

import html
import json
import re
import shutil
import subprocess

import pytest
from made import runs

pytest.importorskip("matplotlib")

from kerasbalance.experiments.report.page import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
         "--v=0", "--virtual-time-budget=5000", "--dump-dom")  # fmt: skip
PROBE = """<script>
let blocked = 0;
addEventListener('securitypolicyviolation', () => blocked += 1);
document.querySelector('.slice').click();
const open = document.querySelector('dialog').open, whole = document.querySelector('dialog path.reference') !== null;
document.querySelector('dialog').close();
setTimeout(() => {
  const narrow = document.documentElement.scrollWidth <= innerWidth;
  const drawn = [...document.images].every(image => image.complete && image.naturalWidth > 0);
  const asked = performance.getEntriesByType('resource').filter(entry => !entry.name.startsWith('data:')).length;
  parent.postMessage(JSON.stringify({ open, whole, narrow, drawn, asked, blocked, width: innerWidth }), '*');
}, 500);
</script></body>"""
FRAME = """<!doctype html><body>
<script>addEventListener('message', event => document.body.dataset.probe = event.data);</script>
<iframe src="probe.html" style="width: {width}px; height: 900px; border: 0"></iframe></body>"""
"""A window is never as narrow as a phone; a frame is."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    run = runs.made_run(folder, [runs.made_stack(seed) for seed in range(8)])
    path = folder / "probe.html"
    path.write_text(write_report(run).read_text().replace("</body>", PROBE))
    return path


@pytest.mark.parametrize("width", [390, 1600])
def test_it_opens_without_errors_or_requests_and_fits_the_screen(page, tmp_path, width):
    frame = page.with_name(f"frame-{width}.html")
    frame.write_text(FRAME.format(width=width))
    command = [BROWSER, *FLAGS, "--window-size=1700,1000", f"--user-data-dir={tmp_path}", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    probe = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert probe, done.stderr[-2000:]
    sound = {
        "open": True,
        "whole": True,
        "narrow": True,
        "drawn": True,
        "asked": 0,
        "blocked": 0,
        "width": width,
    }
    assert json.loads(html.unescape(probe[1])) == sound
    assert "CONSOLE" not in done.stderr
