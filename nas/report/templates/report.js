const paper = 680;  // width of a figure on A4, in CSS pixels
// No tool bar: a figure is one image for a screen reader, and an image holds no buttons.
const config = {responsive: true, displayModeBar: false, scrollZoom: false};

function colours(layout, theme) {
  const palette = palettes[theme];
  const change = {"font.color": palette.text};
  for (const name of Object.keys(layout)) {
    if (!/^[xy]axis[0-9]*$/.test(name)) continue;
    change[name + ".gridcolor"] = palette.grid;
    change[name + ".tickfont.color"] = palette.soft;
  }
  return change;
}

function recolour(theme, more = () => ({})) {
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    Plotly.relayout(plot, {...colours(plot.layout, theme), ...more(plot)});
  }
}

const drawn = [];  // a promise for each figure
let loading = null;

// The library is compressed. An element runs it, since the page's policy forbids eval.
async function load() {
  const packed = Uint8Array.from(atob(library), (character) => character.charCodeAt(0));
  const source = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(source).text();
  document.head.append(script);
}

function draw(name, figure) { drawn.push(drawing(name, figure)); }

async function drawing(name, figure) {
  try {
    await (loading ??= load());
  } catch {
    document.getElementById(name).textContent =
      "This browser cannot draw the figure, since it is older than 2023. The data are below.";
    return;
  }
  const layout = figure.layout;
  const changes = colours(layout, document.documentElement.dataset.theme);
  for (const [path, value] of Object.entries(changes)) {
    const parts = path.split("."), last = parts.pop();
    let part = layout;
    for (const key of parts) part = part[key] ??= {};
    part[last] = value;
  }
  await Plotly.newPlot(name, figure.data, layout, config);
}

addEventListener("beforeprint", () => recolour("light",
  (plot) => ({width: paper, height: plot.classList.contains("tall") ? 560 : 340})));
addEventListener("afterprint", () => recolour(document.documentElement.dataset.theme,
  () => ({width: null, height: null, autosize: true})));

(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const other = () => root.dataset.theme === "dark" ? "light" : "dark";
  const show = () => { button.textContent = other() === "dark" ? "Dark theme" : "Light theme"; };
  const take = (theme) => { root.dataset.theme = theme; show(); recolour(theme); };
  let chosen = false;
  try { chosen = localStorage.getItem("nas-report-theme") !== null; } catch { /* as above */ }
  button.addEventListener("click", () => {
    chosen = true;
    take(other());
    try { localStorage.setItem("nas-report-theme", root.dataset.theme); } catch { /* as above */ }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (system) => {
    if (!chosen) take(system.matches ? "dark" : "light");
  });
  show();
  button.hidden = false;
  const contents = document.querySelector("nav details");
  if (contents && matchMedia("(min-width: 1300px)").matches) contents.open = true;
})();

(() => {
  const words = new Intl.Collator("en", {numeric: true});
  const number = (cell) => {
    const shown = cell.dataset.value ?? cell.textContent.replaceAll(",", "");
    const value = parseFloat(shown);
    return Number.isNaN(value) ? null : value;
  };
  const text = (cell) => cell.textContent === missing ? null : cell.textContent;
  const sort = (head, column) => {
    const body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const cell of head.parentNode.cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const isText = head.classList.contains("text"), key = isText ? text : number;
    const rows = Array.from(body.rows, (row) => [key(row.cells[column]), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);  // unknown: always last
      return (up ? 1 : -1) * (isText ? words.compare(a, b) : a - b);
    });
    body.append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll(".scroll table")) {
    if (table.tBodies[0].rows.length < 2) continue;
    Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(head, column));
      head.append(button);
    });
  }
})();
