"""How the report looks and the few lines of script that enlarge a picture."""

CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2937; --muted: #667080; --line: #e3e7ec;
  --soft: #f6f7f9; --accent: #c2570c; --warn: #fff6ea; --bar: #dbe7f5; --reference: #3b9dff; --predicted: #ff3b30; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181d; --ink: #e3e7ec; --muted: #98a2b0; --line: #2c323b;
  --soft: #1c2027; --accent: #f0954f; --warn: #2a2118; --bar: #26405f; }
  .chart img { filter: invert(0.905) hue-rotate(180deg); border-color: transparent; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 2.5rem) 4rem; }
p, ul { max-width: 46rem; margin: 0.6rem 0; }
.eyebrow { margin: 0; color: var(--muted); font-size: 0.8rem; letter-spacing: 0.08em; text-transform: uppercase; }
h1 { margin: 0.1rem 0 0.8rem; font-size: clamp(1.7rem, 5vw, 2.4rem); line-height: 1.15; letter-spacing: -0.015em; }
h2 { margin: 3rem 0 0.8rem; padding-top: 1rem; border-top: 1px solid var(--line);
  font-size: 1.35rem; line-height: 1.25; }
h3 { margin: 1.8rem 0 0.5rem; font-size: 1.02rem; }
.lead { font-size: 1.08rem; max-width: 52rem; }
.muted, figcaption { color: var(--muted); font-size: 0.88rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.8rem; margin: 1.4rem 0; }
.tile { padding: 0.8rem 1rem; border: 1px solid var(--line); border-radius: 10px; background: var(--soft); }
.tile small { font-size: 0.62em; font-weight: 500; color: var(--muted); white-space: nowrap; }
.tile b { display: block; font-size: 1.5rem; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { display: block; color: var(--muted); font-size: 0.82rem; line-height: 1.35; margin-top: 0.15rem; }
.cautions { max-width: 60rem; padding: 0.7rem 1.1rem; border-left: 4px solid var(--accent);
  border-radius: 0 10px 10px 0; background: var(--warn); }
.cautions ul { max-width: none; margin: 0; padding-left: 1.1rem; }
.cautions li { margin: 0.35rem 0; }
.missing { padding: 0.7rem 1rem; border: 1px dashed var(--line); border-radius: 10px; color: var(--muted); }
code { padding: 0.1em 0.35em; border-radius: 4px; background: var(--soft); font-size: 0.9em; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0.6rem 0 1.2rem; border: 1px solid var(--line); border-radius: 10px; }
table { width: 100%; border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.42rem 0.8rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 600; font-size: 0.8rem; background: var(--soft); }
tbody tr:last-child td { border-bottom: 0; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--paper); }
th:first-child { background: var(--soft); }
@media (max-width: 40rem) { td:first-child { white-space: normal; min-width: 6.6rem; }
  th, td { padding: 0.42rem 0.6rem; } .bar { min-width: 4.2rem; } h2 { margin-top: 2.2rem; } }
.number { text-align: right; }
.bar { display: inline-block; min-width: 6rem; padding: 0 0.3rem; border-radius: 3px;
  background: linear-gradient(to right, var(--bar) var(--share), transparent 0); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1.4rem;
  align-items: start; margin: 1rem 0; }
.charts > :only-child { max-width: 36rem; }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; border: 1px solid var(--line); border-radius: 10px; }
.surface img { background: #ffffff; }
figcaption { margin-top: 0.4rem; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 0 1.6rem;
  align-items: start; }
.side > div { min-width: 0; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(46%, 172px), 1fr)); gap: 0.8rem;
  margin: 1rem 0; }
.slice { padding: 0; border: 1px solid var(--line); border-radius: 8px; overflow: hidden; background: var(--soft);
  color: inherit; font: inherit; text-align: left; cursor: zoom-in; }
.slice:hover, .slice:focus-visible { border-color: var(--accent); outline: none; }
.slice span { display: block; padding: 0.4rem 0.55rem 0.5rem; font-size: 0.76rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
.slice i { color: var(--muted); font-style: normal; }
svg { display: block; width: 100%; height: auto; background: #000000; }
path { fill: none; stroke-width: 1.6px; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
.reference { stroke: var(--reference); }
.predicted { stroke: var(--predicted); }
.key { display: inline-block; width: 1.4em; height: 3px; margin: 0 0.35em; vertical-align: middle; border-radius: 2px; }
.key.reference { background: var(--reference); }
.key.predicted { background: var(--predicted); }
dialog { width: min(96vw, 92vh, 900px); max-width: none; max-height: none; padding: 0; border: 0; border-radius: 12px;
  background: var(--paper); color: inherit; overflow: hidden; }
dialog::backdrop { background: rgb(0 0 0 / 0.75); }
dialog span { display: block; padding: 0.7rem 1rem; font-variant-numeric: tabular-nums; }
dialog path { stroke-width: 2px; }
.bare path { display: none; }
@media print { .slice { break-inside: avoid; } }
"""

SCRIPT = """
const dialog = document.querySelector('dialog'), slices = [...document.querySelectorAll('.slice')];
let shown = 0;
const show = number => {
  shown = (number + slices.length) % slices.length;
  dialog.firstElementChild.innerHTML = slices[shown].innerHTML;
  const picture = dialog.querySelector('svg');
  picture.setAttribute('viewBox', picture.dataset.whole);
};
slices.forEach((slice, number) => slice.addEventListener('click', () => { show(number); dialog.showModal(); }));
dialog.addEventListener('click', event => {
  if (event.target.closest('svg')) dialog.classList.toggle('bare'); else dialog.close();
});
dialog.addEventListener('keydown', event => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) show(shown + step);
});
"""
