"""A server of the built site, and headless Chromium that looks at it."""

import threading
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

# Without these, Chromium asks hosts of its maker at every start.
CHROMIUM_OPTIONS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, NARROW = 1400, 400


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def served(folder):
    """Address at which a folder is served, on the loopback alone."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def chromium(executable):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=CHROMIUM_OPTIONS, chromium_sandbox=False
        )
        try:
            yield browser
        finally:
            browser.close()


class Reader:
    """A reader with a tab of the browser, who writes down what goes wrong in it."""

    def __init__(self, browser, address, *, width=WIDE, theme="light"):
        self._address = address
        context = browser.new_context(
            viewport={"width": width, "height": 1000}, color_scheme=theme, reduced_motion="reduce"
        )
        self.tab = context.new_page()
        self.tab.set_default_timeout(30_000)
        self.faults = []
        self._listen()

    def _listen(self):
        self.tab.on("pageerror", lambda error: self._note(f"error: {error}"))
        self.tab.on("requestfailed", self._failed)
        self.tab.on("console", self._heard)
        self.tab.on("response", self._answered)
        self.tab.on("request", self._asked)

    def _note(self, fault):
        self.faults.append(f"{self.tab.url.removeprefix(self._address)}: {fault}")

    def _failed(self, request):
        if request.failure != "net::ERR_ABORTED":  # the reader has turned to the next page
            self._note(f"failed: {request.url}: {request.failure}")

    def _heard(self, message):
        if message.type in ("error", "warning"):
            self._note(f"console: {message.text}")

    def _answered(self, response):
        if response.status >= 400:
            self._note(f"{response.status}: {response.url}")

    def _asked(self, request):
        if not request.url.startswith((self._address, "data:", "blob:")):
            self._note(f"asks another server: {request.url}")

    def open(self, page, wait="load"):
        self.tab.goto(f"{self._address}/{page}", wait_until=wait)

    def resize(self, width):
        self.tab.set_viewport_size({"width": width, "height": 1000})

    def run(self, script, *arguments):
        return self.tab.evaluate(script, *arguments)

    def close(self):
        self.tab.context.close()


class _Anchors(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.links = set(), []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if attributes.get("id"):
            self.ids.add(attributes["id"])
        if tag == "a" and attributes.get("name"):
            self.ids.add(attributes["name"])
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])


def anchors_of(path):
    """What can be linked to in a page, and where its own links lead."""
    found = _Anchors()
    found.feed(path.read_text(encoding="utf-8"))
    return found.ids, found.links
