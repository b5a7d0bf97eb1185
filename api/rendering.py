"""Templates to HTML: one environment, everything escaped, a missing variable is an error."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

TEMPLATES = Path(__file__).parent / "templates"

environment = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def render(template: str, *, status_code: int = 200, **context: object) -> HTMLResponse:
    """Renders ``api/templates/<template>``."""
    return HTMLResponse(environment.get_template(template).render(status_code=status_code, **context), status_code)
