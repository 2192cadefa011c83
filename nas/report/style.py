"""The style sheet of the report: phone to wide screen, light and dark, and print."""

PALETTES = {
    "light": {
        "page": "#f6f7f9",
        "card": "#ffffff",
        "text": "#1b2129",
        "soft": "#59626e",
        "line": "#dfe3e8",
        "grid": "#e4e7ec",
        "accent": "#0b64ad",
        "warn": "#fff4dc",
        "warn-line": "#d98a00",
        "warn-text": "#573a00",
    },
    "dark": {
        "page": "#12161b",
        "card": "#1a2027",
        "text": "#e8ebef",
        "soft": "#a3acb8",
        "line": "#2e3742",
        "grid": "#303944",
        "accent": "#79b8f2",
        "warn": "#35290f",
        "warn-line": "#e0a030",
        "warn-text": "#ffe2a8",
    },
}
"""The colours of the page by theme; the script gives them to the figures, too."""


def _theme(name: str) -> str:
    colours = "".join(f" --{part}: {colour};" for part, colour in PALETTES[name].items())
    return f"{{ color-scheme: {name};{colours} }}"


# The system's choice holds without a script; the script writes what the reader chose.
_THEMES = f"""
:root {_theme("light")}
@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme]) {_theme("dark")} }}
@media screen {{ :root[data-theme="dark"] {_theme("dark")} }}
"""

STYLE = (
    _THEMES
    + """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  overflow-wrap: anywhere;
}
main { max-width: 1100px; margin: 0 auto; min-width: 0; padding: 1rem 1.5rem 4rem; }
main:focus { outline: none; }
.skip {
  background: var(--card); border: 2px solid var(--accent); border-radius: 8px;
  color: var(--accent); left: .5rem; padding: .4rem .8rem; position: absolute; top: -5rem;
  z-index: 10;
}
.skip:focus { top: .5rem; }
.bar {
  margin: 0 auto; max-width: 1100px; min-height: 3rem; padding: .75rem 1.5rem 0; text-align: right;
}
.bar button {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; color: var(--accent);
  cursor: pointer; font: inherit; font-size: .9rem; padding: .3rem .8rem;
}
nav { margin: 0 auto; max-width: 1100px; padding: 0 1.5rem; }
nav details { margin: 0; }
nav ol { columns: 14rem; list-style: none; margin: 0; padding: 0; }
nav li { break-inside: avoid; }
nav a { border-radius: 4px; display: block; padding: .2rem 0; }
a { color: var(--accent); }
section { scroll-margin-top: 1rem; }
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.2; margin: 0 0 1.5rem; }
h1 small {
  display: block; color: var(--soft); font-size: .85rem; font-weight: 600; letter-spacing: .06em;
  margin-bottom: .4rem; text-transform: uppercase;
}
h2 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 .4rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
p { margin: 0 0 .8rem; }
p, li, dd { max-width: 75ch; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  margin: 1.5rem 0 0; min-width: 0; padding: 1.5rem;
}
code { font: .9em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre {
  background: var(--page); border: 1px solid var(--line); border-radius: 8px; margin: .4rem 0 0;
  padding: .7rem .9rem; white-space: pre-wrap;
}
.caption, .soft { color: var(--soft); }
.notes {
  background: var(--warn); border: 2px solid var(--warn-line); border-radius: 14px;
  color: var(--warn-text); font-weight: 600; margin: 0 0 1.5rem; padding: 1rem 1.25rem;
}
.notes p { margin: 0; }
.notes p + p { margin-top: .5rem; }
.cards {
  display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr));
  list-style: none; margin: 0; padding: 0;
}
.cards li {
  background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  max-width: none; min-width: 0; padding: 1rem .9rem;
}
.cards .label { color: var(--soft); display: block; font-size: .82rem; line-height: 1.3; }
.cards .value {
  display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; font-weight: 650;
  line-height: 1.3; margin: .25rem 0; white-space: nowrap;
}
.cards .detail { color: var(--soft); display: block; font-size: .82rem; line-height: 1.4; }
.cards li:first-child .value { color: var(--accent); }
dl.summary {
  display: grid; gap: .9rem 1.5rem; grid-template-columns: 5rem minmax(0, 1fr); margin: 0;
}
dl.summary dt { color: var(--soft); font-weight: 650; }
dl.summary dd { margin: 0; }
dl.summary dd p:last-child { margin-bottom: 0; }
.caution { border-left: 4px solid var(--warn-line); margin-top: .8rem; padding-left: .9rem; }
figure { margin: 0; }
.plot { height: 430px; margin: .5rem 0 0; min-width: 0; width: 100%; }
.plot.tall { height: 640px; }
details { margin-top: 1rem; }
summary { color: var(--accent); cursor: pointer; padding: .25rem 0; }
.scroll { margin-top: .5rem; max-height: 34rem; overflow: auto; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.scroll { position: relative; }
.unseen {
  clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; white-space: nowrap;
  width: 1px;
}
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td {
  border-bottom: 1px solid var(--line); overflow-wrap: normal; padding: .45rem .8rem;
  text-align: right; vertical-align: top; white-space: nowrap;
}
thead th {
  background: var(--card); color: var(--soft); font-weight: 600; position: sticky; top: 0;
}
thead th button {
  background: none; border: 0; color: inherit; cursor: pointer; font: inherit;
  margin: -.45rem -.3rem; padding: .45rem .3rem; text-align: inherit;
}
thead th button:hover { color: var(--accent); }
thead th[aria-sort] button { color: var(--accent); }
thead th[aria-sort="ascending"] button::after { content: " \\25b2" / ""; }
thead th[aria-sort="descending"] button::after { content: " \\25bc" / ""; }
tbody th { font-weight: inherit; }
tbody tr:last-child > * { border-bottom: 0; }
.text { text-align: left; }
td.design, th.design, td.code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
td.long { max-width: 36rem; min-width: 16rem; overflow-wrap: anywhere; white-space: pre-wrap; }
tr.best > * { background: color-mix(in srgb, var(--accent) 10%, transparent); font-weight: 650; }
table.facts { width: 100%; }
table.facts th { color: var(--soft); font-weight: 600; width: 12rem; }
table.facts th, table.facts td { text-align: left; white-space: normal; }
table.facts td { overflow-wrap: anywhere; }

@media (min-width: 1300px) {
  .columns {
    display: grid; gap: 1rem; grid-template-columns: 14rem minmax(0, 1100px);
    justify-content: center;
  }
  .columns > main { grid-column: 2; margin: 0; width: 100%; }
  .bar { max-width: calc(1115px + 14rem); }
  nav {
    align-self: start; font-size: .9rem; margin: 0; max-height: 100vh; overflow-y: auto;
    padding: 1rem 0 1rem 1.5rem; position: sticky; top: 0; width: 100%;
  }
  nav ol { columns: auto; }
}
.plot .annotation-text, .plot .heatmap-label text, .plot .bartext, .plot .textpoint text {
  fill: var(--text) !important;
}

@media (max-width: 600px) {
  main { padding: .5rem .9rem 3rem; }
  .bar, nav { padding-left: .9rem; padding-right: .9rem; }
  section { padding: 1.1rem 1rem; }
  .cards { gap: .7rem; grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .cards li { padding: .8rem .85rem; }
  .cards .value { font-size: 1.15rem; }
  dl.summary { gap: .2rem; grid-template-columns: minmax(0, 1fr); }
  dl.summary dd { margin-bottom: .9rem; }
  .plot { height: 390px; }
  .plot.tall { height: 560px; }
  table.facts th { width: 7.5rem; }
  th, td { padding: .4rem .55rem; }
}
@page { margin: 16mm 14mm; size: A4; }
@media print {
  :root { --page: #ffffff; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  .bar, nav, .skip, figure ~ details:not([open]) { display: none !important; }
  section { border: 0; border-radius: 0; border-top: 1px solid var(--line); padding: 1rem 0 0; }
  section, .cards li, figure, tr { break-inside: avoid; }
  section.long { break-inside: auto; }
  h2, h3 { break-after: avoid; }
  .plot { height: 340px; }
  .plot.tall { height: 560px; }
  .scroll { max-height: none; overflow: visible; }
  .scroll table { font-size: 8pt; }
  th, td { padding: .25rem .4rem; white-space: normal; }
  thead th { position: static; }
  thead th button::after { content: none !important; }
  td.design, th.design { overflow-wrap: anywhere; }
  td.long { min-width: 0; }
  summary { color: var(--soft); list-style: none; }
  details:not([open]) > summary::after { content: " (closed when this was printed)"; }
}
"""
)
