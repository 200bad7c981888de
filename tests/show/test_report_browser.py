"""The report in a real browser: it draws, sorts, filters, explains runs, follows light and dark, without a network."""

import csv
import io
import json
import shutil
from types import SimpleNamespace

import pytest
from PIL import Image

from dwfbench.analysis.resultset import ResultSet
from dwfbench.show import looks, report, tables
from tests.show.test_report import HERE, METHODS, evil_records, record, records

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and its driver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """The report of a few runs, some with markup for names, one of them below the axis."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    low = record(*METHODS[3], 0, 100.0, test_accuracy=0.1)
    report.write(report.render(ResultSet([*records(), low, *evil_records()]), HERE), path)
    return path.as_uri()


@pytest.fixture(scope="session")
def usual(tmp_path_factory):
    """The report of what one command trains."""
    path = tmp_path_factory.mktemp("usual") / "report.html"
    report.write(report.render(ResultSet(records(seeds=3)), HERE), path)
    return path.as_uri()


@pytest.fixture
def page(browser, address):
    """The page, loaded anew and drawn: ``js`` runs a script in it, ``all`` and ``one`` find elements."""
    from selenium.webdriver.support.ui import WebDriverWait

    def find(css):
        return browser.find_elements("css selector", css)

    found = SimpleNamespace(
        driver=browser,
        js=browser.execute_script,
        all=find,
        one=lambda css: find(css)[0],
        wait=WebDriverWait(browser, 10, poll_frequency=0.02),
    )
    show(browser, "light", 1200)
    open_and_wait(found, address)
    return found


def open_and_wait(page, address):
    page.driver.get(address)
    page.wait.until(lambda _: page.js("return document.documentElement.dataset.drawn === 'true'"))


def show(browser, scheme, width):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    sizes = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)


def in_sight(page, element):
    page.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    return element


def texts(page, css, attribute="textContent"):
    """A text of every element that is not hidden, in their order."""
    script = "return [...document.querySelectorAll(arguments[0])].filter(e => !e.hidden).map(e => e[arguments[1]])"
    return page.js(script, css, attribute)


def points(page):
    """The accessible names of the runs drawn in the charts of accuracy."""
    return sorted(texts(page, ".accuracy path[aria-label*='; run: ']", "ariaLabel"))


def hover(page, css):
    """The tooltip of the first such element."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page.driver).move_to_element(in_sight(page, page.one(css))).perform()
    page.wait.until(lambda _: page.all("#vg-tooltip-element.visible"))
    return page.one("#vg-tooltip-element").text


def column(page, table, title):
    """The texts in a column of the rows that are shown."""
    titles = page.js("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", f"#{table} th")
    return texts(page, f"#{table} tbody tr:not([hidden]) td:nth-child({titles.index(title) + 1})")


def title(page, table, name):
    """The button in the title of a column."""
    shown = f"#{table} th:not([hidden])"
    return in_sight(page, page.all(f"{shown} button")[texts(page, shown).index(name)])


def test_it_loads_without_errors_and_without_a_network(page, address):
    for log in ("browser", "performance"):
        page.driver.get_log(log)  # of the browser's own first page
    open_and_wait(page, address)
    assert page.driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert set(asked) - {"data:,"} == {address}


def test_every_chart_is_drawn_with_its_marks(page):
    # Two charts of accuracy; of layers one for each of 1 + 3 sparse methods; of dynamics 2 curves x 3 quantities.
    assert len(page.all(".chart")) == 2 + 4 + 6
    assert len(page.all(".chart:has(svg .mark-symbol path, svg .mark-line path)")) == 2 + 4 + 6
    assert len([name for name in points(page) if "; run: dwf D=2-0-10;" in name]) == 1


def test_bands_and_runs_below_the_axis_do_not_stretch_it(page):
    labels = texts(page, ".accuracy:has([value='dwf D=2']) .role-axis-label text")
    assert {"91", "92", "93"} <= set(labels)  # percent in steps of one, though one run has 10


def test_a_run_is_explained_where_the_pointer_is(page):
    text = hover(page, ".accuracy path[aria-label*='; run: dwf D=2-0-10;']")
    for part in ("dwf D=2-0-10", "strength 0.001", "93.70", "fc1 10 %"):
        assert part in text


def test_markup_in_names_is_shown_and_never_run(page):
    assert "<img src=x onerror=" in hover(page, ".accuracy path[aria-label*='; run: a<']")
    assert page.js("return [window.injected ?? null, document.images.length]") == [None, 0]


def test_the_legend_hides_and_shows_a_method(page):
    before = points(page)
    box = in_sight(page, page.one(".legend input[value='dwf D=2']"))
    box.click()
    page.wait.until(lambda _: len(points(page)) < len(before))
    assert set(before) - set(points(page)) == {name for name in before if "; run: dwf D=2-" in name}
    box.click()
    page.wait.until(lambda _: points(page) == before)


def test_the_buttons_zoom(page):
    figure = ".accuracy:has([value='dwf D=2'])"

    def ticks():
        return sorted(texts(page, f"{figure} .role-axis-label text"))

    before = ticks()
    in_sight(page, page.one(f"{figure} [data-zoom='0.7']")).click()
    page.wait.until(lambda _: ticks() != before)
    page.one(f"{figure} [data-zoom='reset']").click()
    page.wait.until(lambda _: ticks() == before)


def test_a_click_or_a_key_on_a_title_sorts_the_best_first(page):
    title(page, "runs-table", "CR").click()
    falling = [float(text) for text in column(page, "runs-table", "CR")]
    assert falling == sorted(falling, reverse=True)
    assert texts(page, "#runs-table th[aria-sort='descending']") == ["CR"]
    title(page, "runs-table", "CR").send_keys("\n")
    assert [float(text) for text in column(page, "runs-table", "CR")] == sorted(falling)
    assert texts(page, "#runs-table th[aria-sort]") == ["CR"]
    for name, reverse in [("Seconds", False), ("Test %", True)]:
        title(page, "runs-table", name).click()
        values = [float(text) for text in column(page, "runs-table", name)]
        assert values == sorted(values, reverse=reverse)
    title(page, "runs-table", "Method").click()
    assert column(page, "runs-table", "Method")[-1] == "random"


def test_missing_values_come_last_in_both_orders(page):
    for _ in range(2):
        title(page, "compare-table", "CR 30").click()
        missing = [text == "-" for text in column(page, "compare-table", "CR 30")]
        assert set(missing) == {False, True}
        assert missing == sorted(missing)


def test_words_and_methods_filter_the_rows(page):
    everything = len(column(page, "runs-table", "Id"))
    words = in_sight(page, page.one("[data-controls='runs-table'] input"))
    words.send_keys("D=2-0 strength")
    assert sorted(column(page, "runs-table", "Id")) == ["dwf D=2-0-10", "dwf D=2-0-2", "dwf D=2-0-30"]
    assert page.one("[data-controls='runs-table'] output").text == f"3 of {everything} rows"
    words.clear()
    page.one("[data-controls='runs-table'] select").send_keys("random")
    assert set(column(page, "runs-table", "Method")) == {"random"}
    assert len(column(page, "runs-table", "Id")) == 2 * 3 + 1


def colours(page):
    """Of the page and of an axis."""
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return page.js(script, "body", "backgroundColor"), page.js(script, ".accuracy .role-axis-domain line", "stroke")


def test_dark_follows_the_system_and_the_button(page):
    light = colours(page)
    show(page.driver, "dark", 1200)
    assert all(dark != bright for dark, bright in zip(colours(page), light, strict=True))
    page.one("#theme").click()
    assert colours(page) == light
    assert page.one("#theme").text == "Dark page"


def test_print_is_light_and_without_controls(page):
    light = colours(page)
    page.one("#theme").click()
    assert colours(page) != light
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert colours(page) == light
    assert not [element for element in page.all(".controls, #theme, nav") if element.is_displayed()]
    assert all(element.is_displayed() for element in page.all(".chart svg"))


def test_a_narrow_window_has_no_horizontal_scrolling(page, address):
    show(page.driver, "light", 400)
    open_and_wait(page, address)
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.js(wide) == 0


def test_on_a_phone_nothing_is_cut(page, usual):
    show(page.driver, "light", 390)
    open_and_wait(page, usual)
    assert page.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert page.js("return document.querySelector('.accuracy .chart svg').getBoundingClientRect().right") <= 390


def test_the_first_screen_has_verdicts_chart_dense_accuracy_date_and_version(page, usual):
    show(page.driver, "light", 1280)
    open_and_wait(page, usual)
    bottom = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom"
    for part in ("header", "#verdicts .claims li:first-child", ".accuracy .chart svg", ".accuracy .legend"):
        assert page.js(bottom, part) <= 900, part
    head = page.one("header").text
    assert all(words in head for words in ("Dense accuracy: 97.90", "Trained 2026-01-01", "Read by dwfbench"))


def downloaded(page, folder, button, name):
    """The file that a button gives."""
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    in_sight(page, button).click()
    page.wait.until(lambda _: (folder / name).exists() and not list(folder.glob("*.crdownload")))
    return (folder / name).read_bytes()


def test_a_table_is_downloaded_as_csv_with_its_numbers(page, tmp_path):
    page.one("[data-controls='compare-table'] select").send_keys("dwf")
    text = downloaded(page, tmp_path, page.one("[data-csv='compare-table']"), "compare.csv").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    shown = ResultSet([*records(), record(*METHODS[3], 0, 100.0, test_accuracy=0.1)])
    table = tables.compare(shown, tables.Question(method=["dwf"]))
    assert [row["Method"] for row in rows] == list(table["Method"])
    for row, expected in zip(rows, table.to_dict("records"), strict=True):
        assert float(row["CR 2"]) == pytest.approx(expected["CR 2"])
        assert float(row["CR 2 ci95"]) == pytest.approx(expected["CR 2 ci95"])
        assert row["CR 5"] == ""


def test_a_text_that_a_spreadsheet_would_calculate_is_none_in_the_csv(page, tmp_path):
    page.js("document.querySelector('#runs-table td').textContent = '=1+1, \"a\"'")
    text = downloaded(page, tmp_path, page.one("[data-csv='runs-table']"), "runs.csv").decode()
    assert '\'=1+1, "a"' in next(iter(csv.reader(io.StringIO(text.split("\n", 1)[1]))))


def colours_of(picture):
    return {colour for _, colour in picture.getcolors(1 << 24)}


def test_a_chart_is_downloaded_as_a_picture_of_what_is_shown(page, usual, tmp_path):
    open_and_wait(page, usual)
    whole = downloaded(page, tmp_path, page.one(".accuracy [data-picture]"), "accuracy-0.png")
    picture = Image.open(io.BytesIO(whole)).convert("RGB")
    width = page.js("return document.querySelector('.accuracy .chart').clientWidth")
    assert picture.width == 2 * width
    ink = tuple(int(looks.inks(ResultSet(records()).runs)["dwf D=2"].colour[at : at + 2], 16) for at in (1, 3, 5))
    assert picture.getpixel((2, 2)) == (255, 255, 255)
    assert ink in colours_of(picture)
    (tmp_path / "accuracy-0.png").unlink()
    in_sight(page, page.one(".legend input[value='dwf D=2']")).click()
    in_sight(page, page.one("#theme")).click()  # a picture is light whatever the page is
    fewer = downloaded(page, tmp_path, page.one(".accuracy [data-picture]"), "accuracy-0.png")
    picture = Image.open(io.BytesIO(fewer)).convert("RGB")
    assert ink not in colours_of(picture)
    assert picture.getpixel((2, 2)) == (255, 255, 255)


def test_a_small_chart_is_downloaded_too(page, usual, tmp_path):
    open_and_wait(page, usual)
    button = page.one("#layers [data-picture]")
    name = page.js("return arguments[0].closest('figure').querySelector('.chart').dataset.chart", button)
    assert Image.open(io.BytesIO(downloaded(page, tmp_path, button, f"{name}.png"))).size > (100, 100)


def test_the_first_stop_of_the_keyboard_skips_to_the_content(page):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page.driver).send_keys("\ue004").perform()  # Tab
    active = page.driver.switch_to.active_element
    assert active.get_attribute("href").endswith("#content")
    assert active.rect["x"] >= 0
    active.send_keys("\n")
    assert page.js("return document.activeElement.id") == "content"
