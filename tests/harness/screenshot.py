"""Picture of the operators' page for the README: `python -m tests.harness.screenshot docs/page.png`.

The demo runs until two orders wait for a person. Its vendors, orders and customers are simulated. Needs Chromium.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
WITHIN_MS = 300_000


def main(file: Path) -> None:
    """Run the demo, and write what its page shows, as a PNG of 64 colours."""
    demo = subprocess.Popen([sys.executable, "-m", "gateway.cli.main", "demo"], stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    try:
        url = re.findall(r"http://\S+", demo.stdout.readline())[0]
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
            page = browser.new_page(viewport={"width": 1100, "height": 780})
            page.goto(url)
            page.get_by_text("held", exact=True).nth(1).wait_for(timeout=WITHIN_MS)
            shot = page.screenshot()
            browser.close()
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate()
    Image.open(BytesIO(shot)).convert("RGB").quantize(64).save(file, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
