"""Templates: HTML is escaped, Markdown is not, and every value must be there."""

import jinja2
import pytest
from markupsafe import Markup

from irmas_dist.reports.templates import render_template


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Put templates by name in the place of those of the package."""
    sources: dict[str, str] = {}
    monkeypatch.setattr(jinja2, "PackageLoader", lambda *_: jinja2.DictLoader(sources))
    return sources


def test_html_is_escaped_but_for_markup(written: dict[str, str]) -> None:
    written["page.html"] = "<p>{{ name }}</p>{{ chart }}"
    page = render_template("page.html", name='<b> & "c"', chart=Markup("<svg></svg>"))
    assert page == "<p>&lt;b&gt; &amp; &#34;c&#34;</p><svg></svg>"


def test_markdown_is_not_escaped(written: dict[str, str]) -> None:
    written["card.md"] = "# {{ name }}"
    assert render_template("card.md", name='<b> & "c"') == '# <b> & "c"'


@pytest.mark.parametrize("template", ["{{ nmae }}", "{% if nmae %}yes{% endif %}", "{{ name.x }}"])
def test_a_missing_value_is_an_error(written: dict[str, str], template: str) -> None:
    written["page.html"] = template
    with pytest.raises(jinja2.UndefinedError):
        render_template("page.html", name="a")


def test_statements_leave_no_lines_behind(written: dict[str, str]) -> None:
    written["card.md"] = "a\n  {% for x in numbers %}\n- {{ x }}\n  {% endfor %}\nb"
    assert render_template("card.md", numbers=[1, 2]) == "a\n- 1\n- 2\nb"


def test_the_templates_of_the_package_are_found() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render_template("sweep_page.html")
