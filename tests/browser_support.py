"""A headless chromium, driven over its debugging pipe with the standard library alone.

The protocol is JSON separated by NUL: the browser reads from its descriptor 3 and
writes to its descriptor 4. Keys and clicks are real input events, so that what a
browser itself does with them (Enter on a button, Escape in a dialog) is tested too.

Source: Chrome DevTools Protocol 1.3, domains Page, Runtime, Input, Network, Emulation.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
        "ArrowDown": 40, "Tab": 9, "Home": 36, "End": 35}  # fmt: skip
TEXTS = {"Enter": "\r", "Escape": ""}


class Browser:
    """One browser with one page; a context manager.

    Attributes:
        requests: The addresses that the page asked for.
        complaints: What it wrote to the console, and what it threw.
    """

    def __init__(self, profile, *, timeout=60):
        self.timeout, self.requests, self.complaints = timeout, [], []
        self._number, self._held, self._session = 0, b"", None
        self._scripts = True
        theirs, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs, theirs_out)]
        place = f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", place, "-", CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (theirs, theirs_out, *ends):
            os.close(end)

    def __enter__(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(timeout=30)
        os.close(self._in)
        os.close(self._out)

    def call(self, method, **params):
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        found = self._until(lambda m: m.get("id") == self._number)
        assert "error" not in found, (method, found)
        return found["result"]

    def open(self, path, *, width, height=900, dark=False):
        """Load a file in a window of a size and wait until it is whole."""
        self.size(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=path.as_uri())
        here = f"location.href === {json.dumps(path.as_uri())}"
        deadline = time.monotonic() + self.timeout
        while not self.get(f"{here} && document.readyState === 'complete'"):
            assert time.monotonic() < deadline, f"not loaded in {self.timeout} s"
            time.sleep(0.02)
        self.settle()

    def size(self, width, height=900):
        """Below 500 pixels too, where a window cannot go."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip

    def get(self, expression):
        """The value of an expression in the page; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in found, (expression, found["exceptionDetails"])
        return found["result"].get("value")

    def press(self, key):
        """A key down and up."""
        text = TEXTS.get(key, key if len(key) == 1 else "")
        code = KEYS.get(key, ord(key[0].upper()))
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=text,
                      windowsVirtualKeyCode=code)  # fmt: skip
        self.settle()

    def click(self, selector):
        """A click in the middle of the first element that matches."""
        middle = self.get(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'nearest'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=middle[0], y=middle[1],
                      button="left", clickCount=1)  # fmt: skip
        self.settle()

    def choose(self, selector, value):
        """An option of the first select that matches, as by hand."""
        self.get(
            f"(() => {{ const select = document.querySelector({json.dumps(selector)});"
            f"select.value = {json.dumps(value)};"
            "select.dispatchEvent(new Event('change')) })()"
        )

    def allow_scripts(self, allowed):
        """Whether pages that are opened from now on run theirs."""
        self._scripts = allowed
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def settle(self):
        """Wait for two frames: events are handled and drawn."""
        if not self._scripts:
            self.call("Page.captureScreenshot")
            return
        self.get("new Promise(done => requestAnimationFrame(() => "
                 "requestAnimationFrame(() => setTimeout(done))))")  # fmt: skip

    def shot(self, path, *, whole=True):
        """A PNG of the whole page, or of the window."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def pdf(self, path):
        """The page as printed on A4."""
        found = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69,
                          preferCSSPageSize=True)  # fmt: skip
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def _until(self, wanted):
        deadline = time.monotonic() + self.timeout
        while True:
            while b"\0" not in self._held:
                left = deadline - time.monotonic()
                ready = left > 0 and select.select([self._in], [], [], left)[0]
                assert ready, f"no answer of chromium in {self.timeout} s"
                received = os.read(self._in, 1 << 20)
                assert received, "chromium ended"
                self._held += received
            text, _, self._held = self._held.partition(b"\0")
            message = json.loads(text)
            self._note(message)
            if wanted(message):
                return message

    def _note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(params["args"])
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"])
