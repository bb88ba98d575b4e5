"""The report in a real browser: no error in its console, no request, nothing wider than the screen."""

import re
import shutil
import subprocess

import made_runs
import pytest

pytest.importorskip("matplotlib")

from kerasbalance.data.report.page import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
         "--v=0", "--virtual-time-budget=5000", "--dump-dom")  # fmt: skip
PROBE = """<script>
addEventListener('securitypolicyviolation', () => document.body.dataset.blocked = 1);
document.querySelector('.slice').click();
const open = document.querySelector('dialog').open, whole = document.querySelector('dialog path.truth') !== null;
document.querySelector('dialog').close();
const narrow = document.documentElement.scrollWidth <= innerWidth;
const drawn = [...document.images].every(image => image.complete && image.naturalWidth > 0);
const asked = performance.getEntriesByType('resource').filter(entry => !entry.name.startsWith('data:')).length;
document.body.dataset.probe = JSON.stringify({ open, whole, narrow, drawn, asked, width: innerWidth });
</script></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    run = made_runs.made_run(folder, [made_runs.made_stack(seed) for seed in range(8)])
    path = folder / "probe.html"
    path.write_text(write_report(run).read_text().replace("</body>", PROBE))
    return path


@pytest.mark.parametrize("width", [500, 1600])
def test_it_opens_without_errors_or_requests_and_fits_the_screen(page, tmp_path, width):
    command = [BROWSER, *FLAGS, f"--window-size={width},900", f"--user-data-dir={tmp_path}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    probe = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert probe, done.stderr[-2000:]
    assert probe[1].replace("&quot;", '"') == (
        f'{{"open":true,"whole":true,"narrow":true,"drawn":true,"asked":0,"width":{width}}}'
    )
    assert "data-blocked" not in done.stdout
    assert "CONSOLE" not in done.stderr
