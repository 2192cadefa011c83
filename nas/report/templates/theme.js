(() => {  // in the head, so that no page flashes up in the other theme
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("nas-report-theme"); } catch { /* no storage: not kept */ }
  if (chosen !== "dark" && chosen !== "light") chosen = system.matches ? "dark" : "light";
  root.dataset.theme = chosen;
})();
