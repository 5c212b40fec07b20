"""The dashboard in a browser: drawn by Grafana's own components from a real Prometheus' answers.

Problem: that every query has an answer does not mean that a person can read the panel.
Decision: Grafana's server is no package that can be fetched like the rest of the toolchain, but its
components are: `draw.tsx` hands our panels to them in a headless Chromium, which asks Prometheus
itself. What is drawn is looked at as text (no panel may be empty) and kept as a picture.
Limits: needs Chromium on PATH. What Grafana's server adds (variables, the grid, its menus) is not
drawn; of panels only the kinds and options that our dashboard uses.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.errors import ClusterError
from tests.cluster.toolchain import grafana

_SOURCE = Path(__file__).with_name("draw.tsx")
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_SIZE = "1360,1460"
_BUDGET_MS = "20000"


def draw(
    board: Mapping[str, Any], prometheus: str, picture: Path, *, seconds: int
) -> dict[str, str]:
    """Write the picture. Returns what each panel says, by its title."""
    browser = next((found for name in _PROGRAMS if (found := shutil.which(name))), None)
    if browser is None:
        raise ClusterError(f"no browser: put one of {', '.join(_PROGRAMS)} on PATH")
    page = picture.with_suffix(".html")
    settings = {"BOARD": board, "PROMETHEUS": prometheus, "SECONDS": seconds}
    told = "".join(
        f"window.{key} = {json.dumps(value).replace('</', '<' + chr(92) + '/')};"
        for key, value in settings.items()
    )
    script, style = _bundled()
    page.write_text(
        f'<meta charset="utf-8"><style>{style}</style><body><div id="board"></div>'
        f"<script>{told}</script><script>{script}</script></body>"
    )
    profile = picture.with_suffix(".profile")
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *(f"--user-data-dir={profile}", f"--window-size={_SIZE}"),
        f"--virtual-time-budget={_BUDGET_MS}",
    ]
    try:
        _run([*command, f"--screenshot={picture}", page.as_uri()])
        drawn = _run([*command, "--dump-dom", page.as_uri()])
    finally:
        page.unlink()
        shutil.rmtree(profile, ignore_errors=True)
    said = _panels(drawn)
    if not said:
        raise ClusterError(f"nothing was drawn: {_text(drawn)[-500:]}")
    return said


def _bundled() -> tuple[str, str]:
    """Script and style sheet."""
    installed = grafana.ensure()
    # Beside its modules, where the bundler looks for them.
    source, out = installed / _SOURCE.name, installed / "draw.js"
    shutil.copy(_SOURCE, source)
    _run(
        [
            str(installed / "node_modules/.bin/esbuild"),
            str(source),
            "--bundle",
            "--jsx=automatic",
            "--loader:.ttf=empty",
            '--define:process.env.NODE_ENV="production"',
            f"--outfile={out}",
        ]
    )
    script = out.read_text().replace("</script", "<\\/script")
    return script, out.with_suffix(".css").read_text()


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        raise ClusterError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def _panels(drawn: str) -> dict[str, str]:
    parts = re.split(r'data-panel="([^"]*)"', drawn)
    return {
        html.unescape(title): _text(content.partition(">")[2])
        for title, content in zip(parts[1::2], parts[2::2], strict=True)
    }


def _text(drawn: str) -> str:
    plain = re.sub(r"<(script|style)\b.*?</\1>", " ", drawn, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*(>|$)", " ", plain)).split())
