# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Template and style of the page of a verification (private to the collection).

They are strings because module_utils ships nothing but Python files.
"""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light;
  --ground: #f4f6f8; --surface: #ffffff; --sunk: #eef1f4; --text: #1b1f24; --faint: #515a64; --line: #d3dae1;
  --link: #0a56a6;
  --ok: #14692d; --ok-ground: #e2f5e7; --ok-line: #2c9149;
  --warning: #7a4a00; --warning-ground: #fff3cf; --warning-line: #bf8700;
  --failed: #a8101c; --failed-ground: #ffe9e7; --failed-line: #cf222e;
  --unknown: #4f5863; --unknown-ground: #e8ecf0; --unknown-line: #79828c;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --ground: #0c1015; --surface: #151b23; --sunk: #1d242d; --text: #e8eef4; --faint: #a3adb8; --line: #313a45;
    --link: #79b8ff;
    --ok: #62d980; --ok-ground: #12281b; --ok-line: #3fa95c;
    --warning: #ecc04f; --warning-ground: #2d240d; --warning-line: #c2962b;
    --failed: #ff938b; --failed-ground: #351618; --failed-line: #f0564e;
    --unknown: #aab4bf; --unknown-ground: #262d36; --unknown-line: #85909b;
  }
}
*, *::before, *::after { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body {
  margin: 0; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  overflow-wrap: anywhere;
}
.page { max-width: 1080px; margin: 0 auto; padding: 24px 20px 48px; }
h1, h2, h3 { line-height: 1.25; margin: 0; }
h2 { font-size: 1.3rem; margin: 0 0 4px; }
h3 { font-size: 1.05rem; }
p { margin: 0 0 12px; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible, pre:focus-visible
  { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 4px; }
code, pre, .mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
code, .mono { font-size: 0.875em; }
.faint { color: var(--faint); }
.icon { width: 1em; height: 1em; vertical-align: -0.125em; flex: none; }
.only-read { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.ok { --tone: var(--ok); --tone-ground: var(--ok-ground); --tone-line: var(--ok-line); }
.warning { --tone: var(--warning); --tone-ground: var(--warning-ground); --tone-line: var(--warning-line); }
.failed { --tone: var(--failed); --tone-ground: var(--failed-ground); --tone-line: var(--failed-line); }
.unknown { --tone: var(--unknown); --tone-ground: var(--unknown-ground); --tone-line: var(--unknown-line); }
.badge {
  display: inline-flex; align-items: center; gap: 6px; padding: 1px 9px; border-radius: 99px; font-size: 0.85rem;
  font-weight: 600; color: var(--tone); background: var(--tone-ground);
}

.banner {
  display: flex; gap: 18px; align-items: center; padding: 22px 24px; border-radius: 14px;
  background: var(--tone-ground); border: 1px solid var(--tone-line);
}
.banner > .icon { width: 52px; height: 52px; color: var(--tone); }
.banner h1 { font-size: 1.75rem; color: var(--tone); }
.banner p { margin: 2px 0 0; }
.made { margin: 10px 4px 0; font-size: 0.9rem; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin: 16px 0 0; }
.tiles > div { background: var(--surface); border: 1px solid var(--line); border-radius: 12px; padding: 12px 16px; }
.tiles dt { font-size: 0.85rem; color: var(--faint); }
.tiles dd { margin: 0; font-size: 1.3rem; font-weight: 650; line-height: 1.3; }
.tiles small { display: block; font-size: 0.85rem; font-weight: 400; color: var(--faint); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0; margin: 16px 4px 0; }
section {
  margin-top: 20px; padding: 20px 22px; background: var(--surface); border: 1px solid var(--line);
  border-radius: 14px; scroll-margin-top: 12px;
}

.picture { display: block; width: 100%; height: auto; margin: 8px auto 0; }
.picture.narrow { display: none; max-width: 420px; }
.picture text { fill: var(--text); font-family: inherit; }
.picture .name { font-size: 15px; font-weight: 650; }
.picture .line { font-size: 12.5px; fill: var(--faint); }
.picture .address { font-size: 12px; font-family: ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; }
.picture .body { fill: var(--surface); stroke: var(--line); stroke-width: 1.5; }
.picture .failed .body, .picture .warning .body, .picture .unknown .body { stroke: var(--tone-line); stroke-width: 2; }
.picture .head { fill: var(--tone-ground); }
.picture .icon-at { color: var(--tone); }
.picture .gate { fill: none; stroke: var(--faint); stroke-width: 1.5; }
.picture .way { fill: none; stroke: var(--tone-line); stroke-width: 2.25; }
.picture .way.quiet { stroke-width: 1; opacity: 0.45; }
.picture .cards-are-joined .way.quiet { stroke-width: 2; opacity: 0.7; }
.picture .failed .way { stroke-width: 3; stroke-dasharray: 9 5; }
.picture .warning .way { stroke-dasharray: 16 4; }
.picture .unknown .way { stroke-dasharray: 2 5; stroke-linecap: round; }
.picture .arrow { fill: var(--tone-line); }
.picture .pill { fill: var(--tone-ground); stroke: var(--tone-line); }
.picture .label { font-size: 12px; font-weight: 600; fill: var(--tone); }
.picture.narrow .name { font-size: 12px; }
.picture.narrow .cards .name { font-size: 15px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; list-style: none; margin: 12px 0 0; padding: 0; font-size: 0.875rem; }
.legend li { display: flex; align-items: center; gap: 6px; }
.legend .icon { color: var(--tone); }
.legend svg.sample { width: 34px; height: 8px; }
.legend .sample path { stroke: var(--tone-line); stroke-width: 3; fill: none; }
.legend .failed .sample path { stroke-dasharray: 9 5; }
.legend .warning .sample path { stroke-dasharray: 16 4; }
.legend .unknown .sample path { stroke-dasharray: 2 5; stroke-linecap: round; }

.finding { border: 1px solid var(--line); border-left: 5px solid var(--tone-line); border-radius: 10px; padding: 14px 18px; margin-top: 14px; }
.finding header { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; margin-bottom: 6px; }
.finding dl { display: grid; grid-template-columns: 7.5em minmax(0, 1fr); gap: 6px 12px; margin: 10px 0 0; }
.finding dt { color: var(--faint); }
.finding dd { margin: 0; }
.finding ul { margin: 0; padding: 0; list-style: none; }
pre.command {
  margin: 0; padding: 9px 12px; background: var(--sunk); border: 1px solid var(--line); border-radius: 8px;
  font-size: 0.875em; white-space: pre-wrap; user-select: all;
}

.scroll { position: relative; overflow-x: auto; margin-top: 10px; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; overflow-wrap: break-word; }
th, td { padding: 7px 8px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { color: var(--faint); font-weight: 600; vertical-align: bottom; }
tbody tr:last-child > * { border-bottom: 0; }
td small { display: block; color: var(--faint); }
.matrix { width: auto; min-width: min(100%, 640px); border-collapse: separate; border-spacing: 3px; overflow-wrap: normal; }
.matrix th, .matrix td { border: 0; white-space: nowrap; }
.matrix thead th.name { text-align: center; }
.matrix tbody th { background: var(--surface); position: sticky; left: 0; }
.matrix td { text-align: center; border-radius: 8px; min-width: 92px; padding: 8px 10px; }
.matrix td.way { background: var(--tone-ground); color: var(--tone); font-weight: 600; }
.matrix td.way.failed { box-shadow: inset 0 0 0 2px var(--tone-line); }
.matrix td.way small { color: var(--tone); font-weight: 400; }
.matrix td.none { background: var(--sunk); color: var(--faint); }
.matrix.dense { font-size: 0.8rem; }
.matrix.dense td { min-width: 0; padding: 6px; }
.matrix.dense { width: 100%; }
.matrix.dense thead th.name { padding: 6px 2px; }
.matrix.dense .name span { display: inline-block; writing-mode: vertical-rl; transform: rotate(180deg); }
.numbers { margin: 10px 0 0; display: flex; flex-wrap: wrap; align-items: center; gap: 6px 8px; }
.wide-table { min-width: 900px; }
.wide-table th[scope=row] { white-space: nowrap; }
.wide-table td.mono { overflow-wrap: anywhere; }
.wide-table ul { margin: 0; padding: 0; list-style: none; }

.clocks { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 12px; margin: 12px 0 0; padding: 0; list-style: none; }
.clocks li { display: flex; gap: 14px; align-items: center; border: 1px solid var(--line); border-radius: 12px; padding: 12px 14px; }
.clocks li > svg { width: 76px; height: 76px; flex: none; }
.clocks .track { fill: none; stroke: var(--sunk); stroke-width: 8; }
.clocks .rest { fill: none; stroke: var(--tone-line); stroke-width: 8; }
.clocks .mark { stroke: var(--text); stroke-width: 1.5; }
.clocks .days { font-size: 17px; font-weight: 700; fill: var(--text); text-anchor: middle; }
.clocks .unit { font-size: 10px; fill: var(--faint); text-anchor: middle; }
.clocks p { margin: 2px 0 0; font-size: 0.875rem; line-height: 1.4; }

.pair { border-top: 1px solid var(--line); padding: 12px 0; }
.pair h3 { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; }
.path { display: flex; flex-wrap: wrap; gap: 6px; list-style: none; padding: 0; margin: 8px 0; }
.path li {
  display: flex; align-items: center; gap: 5px; padding: 2px 9px; border-radius: 6px; font-size: 0.85rem;
  color: var(--tone); background: var(--tone-ground);
}
.path li.failed { font-weight: 700; box-shadow: inset 0 0 0 1.5px var(--tone-line); }
.details { font-size: 0.875rem; color: var(--faint); margin: 0; }
summary { cursor: pointer; font-weight: 600; padding: 8px 0; color: var(--link); }
footer { margin: 20px 4px 0; font-size: 0.85rem; color: var(--faint); }

@media screen and (max-width: 700px) {
  .page { padding: 12px 10px 32px; }
  section { padding: 16px 14px; }
  .banner { padding: 16px; gap: 12px; }
  .banner > .icon { width: 38px; height: 38px; }
  .banner h1 { font-size: 1.35rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; }
  .tiles > div { padding: 10px 12px; }
  .tiles dd { font-size: 1.1rem; }
  .picture.wide.replaced { display: none; }
  .picture.narrow { display: block; }
  .finding { padding: 12px; }
  .finding dl { grid-template-columns: minmax(0, 1fr); gap: 2px; }
  .finding dd { margin-bottom: 8px; }
  .matrix, .matrix.dense { width: 100%; font-size: 0.8rem; }
  .matrix th, .matrix td { padding: 7px 3px; }
  .matrix td { min-width: 0; }
  .matrix thead th { white-space: normal; }
  nav a, summary { display: inline-block; padding: 4px 0; }
}
@media print {
  @page { margin: 14mm; }
  html, body { background: #ffffff; }
  body { font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .page { max-width: none; padding: 0; }
  nav { display: none; }
  section { border: 0; padding: 0; margin-top: 18pt; }
  h2, h3, summary { break-after: avoid; }
  .banner, .tiles, .finding, .pair, .clocks li, .picture, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  .wide-table { min-width: 0; font-size: 8pt; }
  .wide-table th, .wide-table td { padding: 3pt 4pt; }
  .wide-table th[scope=row] { white-space: normal; }
  .matrix td { min-width: 0; }
  .matrix.dense { font-size: 7.5pt; }
  .matrix.dense td { padding: 4pt 3pt; }
  .finding a[href]::after { content: " <" attr(href) ">"; font-size: 8pt; }
}
"""

TEMPLATE = """
{% macro icon(state) %}
<svg class="icon" aria-hidden="true" focusable="false"><use href="#state-{{ state }}"/></svg>
{%- endmacro %}
{% macro badge(state, text) %}
<span class="badge {{ state }}">{{ icon(state) }}{{ text }}</span>
{%- endmacro %}
{% macro number(count, word) %}{{ count }} {{ word }}{{ "" if count == 1 else "s" }}{% endmacro %}
{% macro sample(told) %}
{% if told %}{{ told.median_ms | milliseconds }} (p99 {{ told.p99_ms | milliseconds }}, {{ number(told.requests, "request") }})
{%- else %}not measured{% endif %}
{% endmacro %}
{% macro pair_in_detail(pair) %}
<div class="pair">
  <h3>{{ pair.source }} → {{ pair.destination }} {{ badge(pair.state, pair.state) }}</h3>
  <ol class="path" aria-label="Checks from {{ pair.source }} to {{ pair.destination }}">
    {% for check in pair.checks %}
    {% set state = "ok" if check.state == "passed" else check.state %}
    <li class="{{ state }}">{{ icon(state) }}{{ check.name }}<span class="only-read"> {{ check.state }}</span></li>
    {% endfor %}
  </ol>
  {% if pair.answered_by %}
  <p class="details">Answered by {{ pair.answered_by }}{% if pair.upstream %}, through
    <span class="mono">{{ pair.upstream }}</span>{% endif %}</p>
  {% endif %}
  {% if pair.source_identity or pair.destination_identity %}
  <p class="details">Identities: <span class="mono">{{ pair.source_identity or "not known" }}</span> →
    <span class="mono">{{ pair.destination_identity or "not known" }}</span></p>
  {% endif %}
  {% if pair.latency %}
  <p class="details">Latency: kept connection {{ sample(pair.latency.kept) }}; new connection
    {{ sample(pair.latency.new) }}</p>
  {% endif %}
  {% if pair.rights %}
  <p class="details">{{ pair.source }} may read there:
    {% for right, given in pair.rights | dictsort %}{{ right }}: {{ "yes" if given else "no" }}{{ "" if loop.last else ", " }}{% endfor %}</p>
  {% endif %}
</div>
{% endmacro %}
{% macro drawing(picture) %}
{% set layout = picture.layout %}
{% set id = "picture-" ~ picture.kind %}
<svg class="picture {{ picture.kind }}{{ " replaced" if pictures | length > 1 else "" }}" role="img"
  viewBox="0 0 {{ layout.width }} {{ layout.height }}" aria-labelledby="{{ id }}-title {{ id }}-text">
  <title id="{{ id }}-title">Picture of the mesh: {{ number(clusters | length, "cluster") }}, {{ number(pairs | length, "pair") }}</title>
  <desc id="{{ id }}-text">
    {% for cluster in clusters %}
    {{ cluster.name }} ({{ cluster.zone or "zone not known" }}, {{ cluster.network }}): {{ cluster.state }}.
    {% endfor %}
    {% if not_ok %}
    {% for pair in not_ok %}
    {{ pair.source }} to {{ pair.destination }}: {{ pair.state }}{{ " at " ~ label_of(pair) if pair.state == "failed" else "" }}.
    {% endfor %}
    All other pairs are ok.
    {% else %}
    Every pair is ok.
    {% endif %}
    The matrix of pairs says the same as a table.
  </desc>
  {% for edge in picture.edges %}
  <g class="{{ edge.state }}{{ " cards-are-joined" if layout.card else "" }}">
    <path class="way{{ "" if edge.arrow else " quiet" }}" d="{{ edge.path }}"/>
    {% if edge.arrow %}<polygon class="arrow" points="{{ edge.arrow }}"/>{% endif %}
  </g>
  {% endfor %}
  <g class="{{ "cards" if layout.card else "names" }}">
    {% for node in picture.nodes %}
    <g class="{{ node.cluster.state }}" transform="translate({{ node.left }} {{ node.top }})">
      <rect class="body" width="{{ node.width }}" height="{{ node.height }}" rx="{{ 12 if layout.card else node.height / 2 }}"/>
      {% if layout.card %}
      <path class="head" d="M1 34V12A11 11 0 0 1 12 1H{{ node.width - 12 }}A11 11 0 0 1 {{ node.width - 1 }} 12V34Z"/>
      <use class="icon-at" href="#state-{{ node.cluster.state }}" x="12" y="10" width="16" height="16"/>
      <text class="name" x="36" y="23">{{ node.name }}</text>
      {% for line in node.lines %}
      <text class="line" x="14" y="{{ 51 + 17 * loop.index0 }}">{{ line }}</text>
      {% endfor %}
      <path class="gate" d="M14 94V86a5 5 0 0 1 10 0V94M11 94H27"/>
      <text class="address" x="34" y="93">{{ node.gateway }}</text>
      {% else %}
      {% set size = [node.height - 16, 16] | min %}
      <use class="icon-at" href="#state-{{ node.cluster.state }}" x="9" y="{{ (node.height - size) / 2 }}" width="{{ size }}" height="{{ size }}"/>
      <text class="name" x="{{ size + 14 }}" y="{{ node.height / 2 + 4.5 }}">{{ node.name }}</text>
      {% endif %}
    </g>
    {% endfor %}
  </g>
  {% for edge in picture.edges if edge.label %}
  <g class="{{ edge.state }}" transform="translate({{ edge.label_x - edge.label_width / 2 }} {{ edge.label_y - 11 }})">
    <rect class="pill" width="{{ edge.label_width }}" height="22" rx="11"/>
    <use class="icon-at" href="#state-{{ edge.state }}" x="6" y="5" width="12" height="12"/>
    <text class="label" x="22" y="15">{{ edge.label }}</text>
  </g>
  {% endfor %}
</svg>
{% endmacro %}
{% macro picture_section() %}
{% if pictures %}
<section id="picture" aria-labelledby="picture-heading">
  <h2 id="picture-heading">The mesh</h2>
  {% for picture in pictures %}{{ drawing(picture) }}{% endfor %}
  <ul class="legend" aria-label="Legend">
    {% for state, meaning in states %}
    <li class="{{ state }}">{{ icon(state) }}
      <svg class="sample" viewBox="0 0 34 8" aria-hidden="true"><path d="M1 4H33"/></svg> {{ meaning }}</li>
    {% endfor %}
  </ul>
  {% if not pictures[0].layout.labels %}
  <p class="numbers faint">A line without arrows: both ways are ok. How quick each is, the matrix says.</p>
  {% endif %}
</section>
{% endif %}
{% endmacro %}
{% macro findings_section() %}
<section id="findings" aria-labelledby="findings-heading">
  <h2 id="findings-heading">Findings</h2>
  {% if not findings %}
  <p class="faint">There are none.</p>
  {% endif %}
  {% for finding in findings %}
  {% set state = "failed" if finding.severity == "error" else "warning" %}
  <article class="finding {{ state }}">
    <header>
      {{ badge(state, finding.severity) }}
      <code>{{ finding.code }}</code>
      <span>{% if finding.source is defined and finding.destination is defined %}
        {{ finding.source }} → {{ finding.destination }}
      {% elif finding.cluster is defined %}in {{ finding.cluster }}
      {% else %}the whole mesh{% endif %}</span>
    </header>
    <h3>{{ finding.message }}</h3>
    <dl>
      {% if finding.evidence %}
      <dt>Seen</dt>
      <dd><ul>{% for line in finding.evidence %}<li class="mono">{{ line }}</li>{% endfor %}</ul></dd>
      {% endif %}
      <dt>Likely cause</dt><dd>{{ finding.cause }}</dd>
      <dt>Next</dt><dd><pre class="command">{{ finding.next_step }}</pre></dd>
      {% if finding.link.startswith("https://") %}
      <dt>Read more</dt><dd><a href="{{ finding.link }}" rel="noreferrer">about {{ finding.code }}</a></dd>
      {% endif %}
    </dl>
  </article>
  {% endfor %}
</section>
{% endmacro %}
{% macro matrix_section() %}
<section id="matrix" aria-labelledby="matrix-heading">
  <h2 id="matrix-heading">Every pair</h2>
  <p class="faint" id="matrix-says">From the cluster of the row to the cluster of the column. Times are medians over a kept connection.</p>
  <div class="scroll" role="region" aria-label="Matrix of pairs" tabindex="0">
    <table class="matrix{{ " dense" if many else "" }}" aria-labelledby="matrix-heading" aria-describedby="matrix-says">
      <thead>
        <tr><th scope="col">from \\ to</th>{% for to in clusters %}<th class="name" scope="col"><span>{{ to.name }}</span></th>{% endfor %}</tr>
      </thead>
      <tbody>
        {% for from in clusters %}
        <tr>
          <th scope="row">{{ from.name }}</th>
          {% for to in clusters %}
          {% set pair = by_pair.get((from.name, to.name)) %}
          {% if from.name == to.name %}
          <td class="none"><span aria-hidden="true">&ndash;</span><span class="only-read">itself</span></td>
          {% elif pair is none %}
          <td class="none">{{ "·" if many else "" }}<span class="{{ "only-read" if many else "" }}">no peers</span></td>
          {% else %}
          {% set label = label_of(pair) %}
          <td class="way {{ pair.state }}">{{ icon(pair.state) }}
            <span{% if many %} class="only-read"{% endif %}>{{ pair.state }}</span>
            {% if label != pair.state %}
            <small>{{ "at " if pair.state == "failed" and not many else "" }}
              {{- label | replace(" ms", "") if many else label }}</small>
            {% endif %}
          </td>
          {% endif %}
          {% endfor %}
        </tr>
        {% endfor %}
      </tbody>
    </table>
  </div>
  {% if many %}
  <p class="numbers faint"><span>Numbers are milliseconds.</span>
    {% for state, meaning in states %}<span class="badge {{ state }}">{{ icon(state) }}{{ meaning }}</span> {% endfor %}</p>
  {% endif %}
</section>
{% endmacro %}
{% set states = [
  ("ok", "ok"), ("warning", "works, with a warning"), ("failed", "does not work"), ("unknown", "could not be looked at"),
] %}
{% set failed = not_ok | selectattr("state", "equalto", "failed") | list %}
{% set errors = findings | selectattr("severity", "equalto", "error") | list | length %}
{% set warnings = findings | length - errors %}
{% set state = ("warning" if warnings else "ok") if mesh.healthy else "failed" %}
{% set verdict = "The mesh is healthy" if mesh.healthy else "The mesh is not healthy" %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ verdict }} &ndash; {{ number(clusters | length, "cluster") }}, {{ mesh.begun | moment }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<svg width="0" height="0" style="position:absolute" aria-hidden="true" focusable="false">
  <symbol id="state-ok" viewBox="0 0 16 16"><circle cx="8" cy="8" r="8" fill="currentColor"/>
    <path d="M4.3 8.3l2.5 2.5 4.9-5.2" fill="none" stroke="var(--surface)" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/></symbol>
  <symbol id="state-warning" viewBox="0 0 16 16">
    <path d="M8 .8a1.5 1.5 0 0 1 1.3.8l6.3 11.6a1.5 1.5 0 0 1-1.3 2.2H1.7a1.5 1.5 0 0 1-1.3-2.2L6.7 1.6A1.5 1.5 0 0 1 8 .8z"
      fill="currentColor"/>
    <path d="M8 5.6v4.2M8 12.4v.1" fill="none" stroke="var(--surface)" stroke-width="2" stroke-linecap="round"/></symbol>
  <symbol id="state-failed" viewBox="0 0 16 16"><path d="M4.7 0h6.6L16 4.7v6.6L11.3 16H4.7L0 11.3V4.7z" fill="currentColor"/>
    <path d="M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6" fill="none" stroke="var(--surface)" stroke-width="2" stroke-linecap="round"/></symbol>
  <symbol id="state-unknown" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="none" stroke="currentColor" stroke-width="1.6" stroke-dasharray="3 1.9"/>
    <path d="M6.1 6.4a1.9 1.9 0 1 1 2.7 1.7c-.6.3-.8.6-.8 1.2M8 11.6v.1" fill="none"
      stroke="currentColor" stroke-width="1.6" stroke-linecap="round"/></symbol>
</svg>
<div class="page">
<header>
  <div class="banner {{ state }}">
    {{ icon(state) }}
    <div>
      <h1>{{ verdict }}</h1>
      <p>
        {% if failed %}{{ failed | length }} of {{ number(pairs | length, "pair") }} {{ "does" if pairs | length == 1 else "do" }} not work.
        {% elif not_ok %}{{ not_ok | length }} of {{ number(pairs | length, "pair") }} could not be shown to be well.
        {% elif mesh.mode == "full" %}A request got through for every one of {{ number(pairs | length, "pair") }} of clusters.
        {% elif mesh.proved is defined %}Requests of all {{ number(pairs | length, "pair") }} of clusters got through, and nothing has changed since.
        {% else %}Nothing speaks against any of {{ number(pairs | length, "pair") }} of clusters.{% endif %}
        {% if findings %}{{ number(errors, "error") }}, {{ number(warnings, "warning") }}.{% endif %}
      </p>
    </div>
  </div>
  <p class="made faint">Verified <time datetime="{{ mesh.begun }}">{{ mesh.begun | moment }}</time> in {{ "%.1f" | format(mesh.seconds) }} s:
    {% if mesh.mode == "full" %}requests were sent from each cluster to each of its peers.
    {% elif mesh.proved is defined %}requests got through <time datetime="{{ mesh.proved }}">{{ mesh.proved | moment }}</time>,
      and nothing that they depended on has changed since.
    {% else %}only what can be read was looked at; no requests were sent.{% endif %}
    {% if mesh.only is defined and mesh.only %}Only pairs that involve {{ mesh.only | join(", ") }}.{% endif %}</p>
  <dl class="tiles">
    <div><dt>Clusters</dt><dd>{{ clusters | length }}
      <small>{{ number(mesh.trust_domains | length, "trust domain") }}, {{ number(mesh.roots | length, "root") }}</small></dd></div>
    <div><dt>Pairs that are ok</dt><dd>{{ pairs | length - not_ok | length }} of {{ pairs | length }}
      <small>{{ number(errors, "error") }}, {{ number(warnings, "warning") }}</small></dd></div>
    <div><dt>Slowest pair</dt><dd>
      {% if slowest %}{{ slowest[0] | milliseconds }}<small>{{ slowest[1].source }} → {{ slowest[1].destination }}</small>
      {% else %}&ndash;<small>not measured</small>{% endif %}</dd></div>
    <div><dt>First CA to end</dt><dd>
      {% if first_to_end %}{{ number(first_to_end.days_left, "day") }}
      <small>{{ first_to_end.role }} of {{ first_to_end.owners | join(", ") }}</small>
      {% else %}&ndash;<small>none was seen</small>{% endif %}</dd></div>
  </dl>
  <nav aria-label="Contents"><ul>
    {% if pictures %}<li><a href="#picture">The mesh</a></li>{% endif %}
    <li><a href="#findings">Findings</a></li>
    <li><a href="#matrix">Every pair</a></li>
    <li><a href="#clusters">Clusters</a></li>
    <li><a href="#certificates">Certificates</a></li>
    <li><a href="#details">Pairs in detail</a></li>
  </ul></nav>
</header>
<main>
{% if many %}
{{ findings_section() }}{{ matrix_section() }}{{ picture_section() }}
{% else %}
{{ picture_section() }}{{ findings_section() }}{{ matrix_section() }}
{% endif %}
<section id="clusters" aria-labelledby="clusters-heading">
  <h2 id="clusters-heading">Clusters and versions</h2>
  <div class="scroll" role="region" aria-label="Table of clusters" tabindex="0">
    <table class="wide-table">
      <thead><tr>
        <th scope="col">Cluster</th><th scope="col">State</th><th scope="col">Zone, network</th>
        <th scope="col">Istio, Kubernetes</th><th scope="col">istiod</th><th scope="col">East-west gateway</th>
        <th scope="col">Trust domain</th><th scope="col">DNS capture</th><th scope="col">Clock</th>
      </tr></thead>
      <tbody>
        {% for cluster in clusters %}
        <tr>
          <th scope="row">{{ cluster.name }}</th>
          <td>{{ badge(cluster.state, cluster.state) }}</td>
          <td>{{ cluster.zone or "not known" }}<small>{{ cluster.network }}</small></td>
          <td>{{ cluster.istio_version or "not known" }}<small>{{ cluster.kubernetes_version or "not known" }}</small></td>
          <td>{{ cluster.istiods | selectattr("ready") | list | length }} of {{ cluster.istiods | length }} ready</td>
          <td>{% if cluster.gateways %}<ul>{% for gateway in cluster.gateways %}
            <li><span class="mono">{{ gateway.addresses | join(", ") or "no address" }}</span>
              <small>{{ gateway.name }}, {{ gateway.ready_pods }} of {{ number(gateway.pods, "pod") }} ready</small></li>
          {% endfor %}</ul>{% else %}none{% endif %}</td>
          <td>{{ cluster.trust_domain or "not known" }}</td>
          <td>{{ "not known" if cluster.dns_capture is none else "on" if cluster.dns_capture else "off" }}</td>
          <td>{% if cluster.clock_skew_seconds is none %}not known{% else %}{{ "%+.1f" | format(cluster.clock_skew_seconds) }}&nbsp;s{% endif %}</td>
        </tr>
        {% endfor %}
      </tbody>
    </table>
  </div>
</section>
<section id="certificates" aria-labelledby="certificates-heading">
  <h2 id="certificates-heading">Certificate clocks</h2>
  <p class="faint">How much of its life each CA has left. Marks on a clock are {{ thresholds | join(", ") }} days before its end:
    then it is worth a notice, a warning and an alarm.
    {% if mesh.roots | length == 1 %}All trust one root, <span class="mono">{{ mesh.roots[0] }}</span>.{% endif %}</p>
  {% if mesh.roots | length > 1 %}
  <p>{{ badge("failed", "different roots are trusted") }} {% for root in mesh.roots %}<br><span class="mono">{{ root }}</span>{% endfor %}</p>
  {% endif %}
  {% if certificates %}
  <ul class="clocks">
    {% for clock in certificates %}
    <li class="{{ clock.state }}">
      <svg viewBox="0 0 76 76" aria-hidden="true" focusable="false">
        <g transform="rotate(-90 38 38)">
          <circle class="track" cx="38" cy="38" r="{{ ring_radius }}"/>
          <circle class="rest" cx="38" cy="38" r="{{ ring_radius }}" stroke-dasharray="{{ "%.1f" | format(ring * clock.left) }} {{ "%.1f" | format(ring) }}"/>
          {% for mark in clock.marks %}
          <path class="mark" d="M63 38H73" transform="rotate({{ "%.1f" | format(360 * mark) }} 38 38)"/>
          {% endfor %}
        </g>
        <text class="days" x="38" y="40">{{ clock.days_left }}</text><text class="unit" x="38" y="52">days</text>
      </svg>
      <div>
        <h3>{{ clock.owners | join(", ") if clock.owners | length <= 3 else number(clock.owners | length, "cluster") }}</h3>
        <p>{{ clock.role }} CA {{ badge(clock.state, clock.level) }}</p>
        <p class="faint"><span class="only-read">{{ number(clock.days_left, "day") }} left, </span>ends {{ (clock.certificate.not_after | moment)[:10] }}</p>
      </div>
    </li>
    {% endfor %}
  </ul>
  <details>
    <summary>Every certificate that was seen</summary>
    <div class="scroll" role="region" aria-label="Table of certificates" tabindex="0">
      <table class="wide-table">
        <thead><tr><th scope="col">Cluster</th><th scope="col">Role, where</th><th scope="col">Subject, issuer</th>
          <th scope="col">Serial, fingerprint</th><th scope="col">Life</th><th scope="col">Days left</th></tr></thead>
        <tbody>
          {% for cluster in clusters %}{% for certificate in cluster.certificates %}
          <tr>
            <th scope="row">{{ cluster.name }}</th>
            <td>{{ certificate.role }}<small>{{ certificate.where }}</small></td>
            <td>{{ certificate.subject }}<small>{{ certificate.issuer }}</small></td>
            <td class="mono">{{ certificate.serial }}<small>{{ certificate.fingerprint }}</small></td>
            <td>{{ certificate.not_before | moment }}<small>to {{ certificate.not_after | moment }}</small></td>
            <td>{{ certificate.days_left }}</td>
          </tr>
          {% endfor %}{% endfor %}
        </tbody>
      </table>
    </div>
  </details>
  {% else %}
  <p class="faint">No certificate was seen.</p>
  {% endif %}
</section>
<section id="details" aria-labelledby="details-heading">
  <h2 id="details-heading">Pairs in detail</h2>
  <p class="faint">What was looked at, in the order of the way of a request.</p>
  {% for pair in not_ok %}{{ pair_in_detail(pair) }}{% endfor %}
  {% if pairs | length > not_ok | length %}
  <details{{ " open" if pairs | length <= 6 else "" }}>
    <summary>{{ number(pairs | length - not_ok | length, "pair") }} that {{ "is" if pairs | length - not_ok | length == 1 else "are" }} ok</summary>
    {% for pair in pairs if pair.state == "ok" %}{{ pair_in_detail(pair) }}{% endfor %}
  </details>
  {% endif %}
</section>
</main>
<footer>Made by exomesh.istio from a verification of form {{ schema }}. This page loads nothing and needs no network.</footer>
</div>
</body>
</html>
"""
