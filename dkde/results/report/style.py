"""How a page looks: light and dark, on screens and on paper."""

# The curve's colours by matplotlib's, so that it takes the page's.
COLOURS = {
    "#0072b2": "var(--curve)",
    "#d55e00": "var(--test)",
    "#666666": "var(--muted)",
    "#e6e6e6": "var(--line)",
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
}

_DARK = """
  --paper: #16191d; --ink: #e7e9ec; --muted: #9aa3ad; --line: #333a42; --panel: #1e2329;
  --curve: #56b4e9; --test: #f08a4b; --mark: #22384a;
"""

STYLE = (
    """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f23; --muted: #5f6871; --line: #dde1e6; --panel: #f6f7f9;
  --curve: #0072b2; --test: #c04f00; --mark: #e6f1f8;
}
@media screen and (prefers-color-scheme: dark) { :root {"""
    + _DARK
    + """} }
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
p { margin: .4rem 0; }
.muted, footer, figcaption { color: var(--muted); }
.muted, footer { font-size: .9rem; }
.key { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 0; }
.key div { flex: 1 1 12rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: .5rem; padding: .7rem .9rem; }
.key span { display: block; color: var(--muted); font-size: .85rem; }
.key strong { font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.key strong { white-space: nowrap; }
.wide { overflow: auto; max-height: 40rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { text-align: right; padding: .28rem .9rem; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 500; }
th:first-child, td:first-child { padding-left: .5rem; }
tr.best td { background: var(--mark); font-weight: 600; }
svg { display: block; width: 100%; max-width: 44rem; height: auto; margin: .5rem 0; }
svg text { font-family: inherit; }
.rows { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .9rem; }
figure { margin: 0; break-inside: avoid; }
figure img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line);
  border-radius: .25rem; display: block; }
figcaption { font-size: .8rem; line-height: 1.35; margin-top: .25rem;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0;
  font-size: .93rem; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--muted); font-size: .9rem; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem 1rem; font-size: .78rem; line-height: 1.4; white-space: pre-wrap;
  overflow-wrap: anywhere; }
footer { margin-top: 2.5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print {
  main { max-width: none; padding: 0; }
  body { font-size: 10pt; }
  h2, h3 { break-after: avoid; }
  tr, .key div, svg { break-inside: avoid; }
  .wide { overflow: visible; max-height: none; }
  .rows { grid-template-columns: repeat(6, 1fr); }
  details { display: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
)
