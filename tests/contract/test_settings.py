from tests.contract.settings_page import PAGE, page


def test_the_reference_says_what_the_settings_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "The settings have changed: run `python -m tests.contract.settings_page` and commit the page with the change."
    )
