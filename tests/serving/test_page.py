"""The chat page in a real browser, against a real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.speaking import make_run
from tests.serving.conftest import SAYS, Server, serving

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("chromium and chromedriver are not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--lang=en-US", "--window-size=1280,860"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, server: Server) -> Page:
    browser.get(server.url)
    browser.execute_script("localStorage.clear()")
    browser.get(server.url)
    return Page(browser)


class Page:
    """What a person does on it."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.until(lambda: self.find("#name").text != "")

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        found = self.browser.find_elements("css selector", selector)
        return [one.text for one in found]

    def until(self, condition: Callable[[], object]) -> None:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.browser, 120, 0.05, [StaleElementReferenceException])
        wait.until(lambda _: condition())

    def type(self, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        self.find("#input").send_keys(text, Keys.ENTER)

    def ask(self, text: str) -> None:
        answers = len(self.texts(".turn.assistant"))
        self.type(text)
        self.until(lambda: len(self.texts(".turn.assistant .foot")) > answers)

    def errors(self) -> list[str]:
        log = self.browser.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


def test_ask_regenerate_and_reload(page: Page, server: Server) -> None:
    page.ask("你好 hello")
    assert page.texts(".turn.user .body") == ["你好 hello"]
    assert page.texts(".turn.assistant .body") == [SAYS]
    assert "7 tokens" in page.texts(".figures")[0]
    page.ask("again")
    page.find(".again").click()
    page.until(lambda: page.texts(".turn.assistant .body") == [SAYS, SAYS])
    page.until(lambda: len(page.texts(".turn.assistant .foot")) == 2)
    page.find("#new").click()
    page.ask("another")
    page.browser.get(server.url)
    page = Page(page.browser)
    assert page.texts("#list .open") == ["another", "你好 hello"]
    assert page.texts(".turn.user .body") == ["another"]
    page.browser.find_elements("css selector", "#list .open")[1].click()
    assert page.texts(".turn.assistant .body") == [SAYS, SAYS]
    assert page.errors() == []


def test_chances_languages_and_themes(page: Page) -> None:
    page.ask("hello")
    page.find("#show").click()
    assert "".join(one.get_property("textContent") for one in
                   page.browser.find_elements("css selector", ".token")) == SAYS  # fmt: skip
    page.find(".token").click()
    assert page.texts("#rows .drawn td:first-child") == ['"m"']
    page.find("#chances-done").click()
    page.find("#language").click()
    assert page.find("#new").text == "新对话"
    page.find("#theme").click()
    assert page.find("html").get_attribute("data-theme") in ("dark", "light")
    assert page.errors() == []


def test_markup_is_shown_as_text(page: Page) -> None:
    attack = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    page.ask(attack)
    assert page.texts(".turn.user .body") == [attack]
    assert page.texts("#list .open")[0].startswith("<img")
    # The same from the model: its answer is put in by the same function.
    page.browser.execute_script(
        "const m = chat().messages.at(-1); m.content = arguments[0]; m.tokens = []; draw();", attack
    )
    assert page.texts(".turn.assistant .body") == [attack]
    assert page.browser.title == "chatgpt"
    assert page.browser.find_elements("css selector", "#talk img, #talk script, #list img") == []


def test_stop(browser: Any, tmp_path: Path) -> None:
    config = make_run(tmp_path, says="mat cat", ends=False, context_length=20000)
    with serving(config, "--set", "generate.max_tokens=19000") as server:
        browser.get(server.url)
        page = Page(browser)
        page.type("go on")
        page.until(lambda: page.texts(".turn.assistant .body")[0].startswith("mat cat"))
        page.find("#send").click()
        page.until(lambda: page.texts(".turn.assistant .note") == ["Stopped."])
        assert page.texts(".turn.assistant .body")[0].startswith("mat cat")


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    page.ask("hello " * 5)
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    width = page.browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 390
    page.find("#menu").click()
    page.until(lambda: page.find("#new").is_displayed())
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
