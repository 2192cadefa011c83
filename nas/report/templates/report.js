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

function coloured(layout, theme) {
  for (const [path, value] of Object.entries(colours(layout, theme))) {
    const parts = path.split("."), last = parts.pop();
    let part = layout;
    for (const key of parts) part = part[key] ??= {};
    part[last] = value;
  }
  return layout;
}

function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")));
}

let loading = null;
const load = () => loading ??= (async () => {
  const script = document.createElement("script");  // the page's policy forbids eval
  script.textContent = await unpacked(library).text();
  document.head.append(script);
})();

async function draw(plot) {
  try {
    await load();
  } catch {
    plot.textContent =
      "This browser cannot draw the figure, since it is older than 2023. The data are below.";
    return;
  }
  if (plot.classList.contains("js-plotly-plot")) {
    Plotly.Plots.resize(plot);
    return;
  }
  const figure = figures[plot.id.replace(/^plot-/, "")];
  const layout = coloured(figure.layout, document.documentElement.dataset.theme);
  if (plot.clientWidth < 500 && figure.data.every(({name}) => !name || name.length <= 14)) {
    // Two columns on a phone; plotly takes one where the widest entry is wider than half.
    layout.legend = {entrywidth: .49, entrywidthmode: "fraction", font: {size: 11}};
  }
  Plotly.newPlot(plot, figure.data, layout, config);
}

for (const plot of document.querySelectorAll(".plot")) {
  const fold = plot.closest("details");  // closed, it has no width
  fold?.addEventListener("toggle", () => { if (fold.open) draw(plot); });
  if (!fold || fold.open) draw(plot);
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
})();

(() => {
  const offer = (kind, act) => {
    for (const button of document.querySelectorAll(`[data-${kind}]`)) {
      button.hidden = false;
      button.addEventListener("click", () => act(button, button.dataset[kind]));
    }
  };
  offer("file", async (_, name) => {
    const link = document.createElement("a");
    link.download = name;
    link.href = URL.createObjectURL(await unpacked(files[name]).blob());
    link.click();
  });
  offer("copy", async (button, id) => {
    const source = document.getElementById(id), label = button.dataset.label ??= button.textContent;
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {  // not allowed here: one key is left to press
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = label; }, 3000);
  });
  for (const box of document.querySelectorAll(".scroll[data-first]")) {
    const rows = box.querySelectorAll("tbody tr").length;
    const button = document.createElement("button");
    button.type = "button";
    const fold = (few) => {
      box.classList.toggle("few", few);
      button.textContent = few ? `Show all ${rows.toLocaleString("en")}` : "Show the first 10";
    };
    button.addEventListener("click", () => fold(!box.classList.contains("few")));
    fold(true);
    if (rows > 10) box.after(button);
  }
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
