// Tables, run list and figures to take away: copied, or saved as files.

async function copyText(text) {
  try { await navigator.clipboard.writeText(text); } catch {
    const field = make("textarea", {class: "hidden"});  // where a browser gives a file no clipboard
    document.body.append(field);
    field.value = text;
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

function saveFile(name, text, type) {
  const link = make("a", {href: URL.createObjectURL(new Blob([text], {type})), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A button that says for a moment that it has done its work.
function taking(text, label, action) {
  const button = make("button", {type: "button", class: "quiet take", text, "aria-label": label});
  button.addEventListener("click", async () => {
    button.textContent = await action() ?? "Saved";
    setTimeout(() => { button.textContent = text; }, 1500);
  });
  return button;
}

let tableTexts = null;
async function tableText(number, format) {
  tableTexts ??= unpack(byId("table-texts"));
  return (await tableTexts)[number][format];
}

function startTables() {
  for (const place of document.querySelectorAll("[data-table]")) {
    const number = Number(place.dataset.table), title = place.dataset.title;
    const copying = (format) => async () => { await copyText(await tableText(number, format)); return "Copied"; };
    place.append(
      taking("CSV", `CSV: save ${title}`, async () => saveFile(`${title}.csv`, await tableText(number, "csv"), "text/csv")),
      taking("Markdown", `Markdown: copy ${title}`, copying("markdown")),
      taking("LaTeX", `LaTeX: copy ${title}`, copying("latex")));
  }
}

// The colours of print in place of the page's.
const PRINTED = {currentColor: "#1a1b1c", "var(--grid)": "#d9dadb", "var(--paper)": "#ffffff"};
function startFigures() {
  for (const figure of document.querySelectorAll("figure")) {
    const save = () => {
      let text = new XMLSerializer().serializeToString(figure.querySelector("svg"));
      for (const [ours, printed] of Object.entries(PRINTED)) text = text.replaceAll(ours, printed);
      return saveFile(`${figure.id}.svg`, text, "image/svg+xml");
    };
    figure.append(make("p", {class: "takes"}, taking("SVG", `SVG: save ${figure.id}`, save)));
  }
}

function csvCell(value) {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// The runs that the filter finds, in the list's order, with every setting that differs and every number.
function runsCsv() {
  const settings = DATA.settings.map((name, place) => [name, place]).filter(([name]) => !COLUMN_PLACES.has(name));
  const heads = ["run", ...DATA.columns, ...settings.map(([name]) => name), ...DATA.metrics.map((metric) => metric.name)];
  const rows = list.found.map((run) => [run.id, ...run.labels, ...settings.map(([, place]) => run.values[place]), ...run.numbers]);
  return [heads, ...rows].map((row) => row.map(csvCell).join(",")).join("\n") + "\n";
}

function startExports() {
  startTables();
  startFigures();
  byId("runs-takes").append(taking("CSV", "CSV: save the runs that the filter finds", () => saveFile("runs.csv", runsCsv(), "text/csv")));
}
