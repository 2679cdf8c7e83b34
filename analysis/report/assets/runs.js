// The list of finished runs: filter, sort, choose the numbers, open a run's settings, pick two for comparison.

const RUNS_AT_ONCE = 200;
const list = {
  runs: DATA.runs.map((run, index) => ({...run, index})).filter((run) => run.status === "finished"),
  shown: new Set(DATA.metrics.filter((metric) => metric.shown).map((metric) => metric.name)),
  key: null, descending: false, limit: RUNS_AT_ONCE, found: [],
};

function shownMetrics() { return DATA.metrics.filter((metric) => list.shown.has(metric.name)); }

// What a name in the filter or a column header stands for, or undefined: a number, text, or null where a run has none.
function valueOf(run, name) {
  if (METRIC_PLACES.has(name)) return run.numbers[METRIC_PLACES.get(name)];
  if (COLUMN_PLACES.has(name)) return run.labels[COLUMN_PLACES.get(name)];
  if (SETTING_PLACES.has(name)) return run.values[SETTING_PLACES.get(name)];
  return name === "run" ? run.id : undefined;
}

const COMPARE = {
  // "neftune" also stands for "neftune (length=true)".
  "=": (value, wanted) => String(value) === wanted || String(value).startsWith(`${wanted} (`) || (wanted !== "" && Number(value) === Number(wanted)),
  "<": (value, wanted) => Number(value) < Number(wanted), ">": (value, wanted) => Number(value) > Number(wanted),
  "<=": (value, wanted) => Number(value) <= Number(wanted), ">=": (value, wanted) => Number(value) >= Number(wanted),
};

// A test of a run for one word of the filter.
function condition(word) {
  const parts = word.match(/^([^<>=]+)(<=|>=|=|<|>)(.*)$/);
  if (parts && list.runs.some((run) => valueOf(run, parts[1]) !== undefined)) {
    return (run) => {
      const value = valueOf(run, parts[1]);
      return value !== null && value !== "" && COMPARE[parts[2]](value, parts[3]);
    };
  }
  const wanted = word.toLowerCase();
  return (run) => [run.id, ...run.labels, ...run.values].some((text) => text.toLowerCase().includes(wanted));
}

function ordered(runs) {
  if (list.key === null) return runs;
  const sign = list.descending ? -1 : 1;
  const isMissing = (value) => value === null || value === "" || value === "unset";
  return [...runs].sort((one, other) => {
    const [a, b] = [valueOf(one, list.key), valueOf(other, list.key)];
    if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
    const numeric = !Number.isNaN(Number(a)) && !Number.isNaN(Number(b));
    return sign * (numeric ? Number(a) - Number(b) : String(a).localeCompare(String(b))) || one.index - other.index;
  });
}

function sortBy(name) {
  const turns = list.key === name;
  list.descending = turns ? !list.descending : false;
  list.key = name;
  drawList();
  keepState("runs");
  byId("list").querySelector(`button[data-key="${CSS.escape(name)}"]`).focus();
}

function headCell(name, title, numeric) {
  const sorted = list.key === name ? (list.descending ? "descending" : "ascending") : "none";
  const button = make("button", {type: "button", "data-key": name, title: `Sort by ${name}`, text: title, onclick: () => sortBy(name)});
  return make("th", {scope: "col", "aria-sort": sorted, class: numeric ? "number" : false}, button);
}

function drawHead() {
  const cells = [make("th", {scope: "col", text: "A B"})];
  cells.push(...DATA.columns.map((name) => headCell(name, name, false)));
  cells.push(...shownMetrics().map((metric) => headCell(metric.name, metricTitle(metric), true)), headCell("run", "run", false));
  byId("list").tHead.replaceChildren(make("tr", {}, ...cells));
}

function pickButton(run, side) {
  const options = {type: "button", class: "pick", "data-side": side, "aria-pressed": String(pair[side] === run.index)};
  const label = `${side.toUpperCase()}: compare ${run.id}`;
  return make("button", {...options, "aria-label": label, text: side.toUpperCase(), onclick: () => choose(side, run.index)});
}

// Which runs are compared, without drawing the list anew: focus and opened rows stay.
function markPicked() {
  for (const row of byId("list").querySelectorAll("tr[data-run]")) {
    for (const button of row.querySelectorAll(".pick")) {
      button.setAttribute("aria-pressed", String(pair[button.dataset.side] === Number(row.dataset.run)));
    }
  }
}

function drawRow(run) {
  const open = make("button", {type: "button", class: "open", "aria-expanded": "false", "aria-label": `Settings and numbers of ${run.id}`});
  const row = make("tr", {"data-run": run.index}, make("td", {class: "picks"}, pickButton(run, "a"), pickButton(run, "b"), open));
  row.append(...run.labels.map((label) => make("td", {}, make("bdi", {text: label === "" ? "—" : label}))));
  row.append(...shownMetrics().map((metric) => make("td", {class: "number", text: numberText(metric, valueOf(run, metric.name))})));
  row.append(make("th", {scope: "row", class: "id"}, make("bdi", {text: run.id})));
  open.addEventListener("click", () => toggleDetails(row, run, open));
  return row;
}

function pairsList(title, pairs) {
  const rows = pairs.map(([name, value]) => make("div", {}, make("dt", {text: name}), make("dd", {}, make("bdi", {text: value}))));
  return make("div", {}, make("p", {class: "pairs-title", text: title}), make("dl", {class: "pairs"}, ...rows));
}

function toggleDetails(row, run, button) {
  const open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  if (open) { row.nextElementSibling.remove(); return; }
  const settings = DATA.settings.map((name, place) => [name, run.values[place]]);
  const numbers = DATA.metrics.map((metric, place) => [metric.name, numberText({decimals: null}, run.numbers[place])]).filter(([, value]) => value !== "—");
  const link = run.url ? [make("p", {}, make("a", {href: run.url, rel: "noreferrer", target: "_blank", text: `${run.id} on W&B`}))] : [];
  const inside = make("div", {class: "details"}, ...link, pairsList("Settings that differ between runs", settings), pairsList("Numbers", numbers));
  row.after(make("tr", {class: "opened"}, make("td", {colspan: row.children.length}, inside)));
}

function drawList() {
  drawHead();
  const conditions = byId("filter").value.split(/\s+/).filter(Boolean).map(condition);
  list.found = ordered(list.runs.filter((run) => conditions.every((holds) => holds(run))));
  const rows = list.found.slice(0, list.limit).map(drawRow);
  byId("list").tBodies[0].replaceChildren(...rows);
  byId("count").textContent = `${list.found.length} of ${plural(list.runs.length, "finished run")}`;
  const rest = list.found.length - rows.length, more = byId("more-runs");
  more.hidden = rest <= 0;
  more.textContent = `Show ${Math.min(rest, RUNS_AT_ONCE)} more of ${rest}`;
}

// Bounds and other weightings of a probe's figure are in a run's details only.
function drawMetricChoices() {
  const offered = DATA.metrics.filter((metric) => !/\/(low|high|per_token)$/.test(metric.name));
  byId("metrics").append(...offered.map((metric) => {
    const box = make("input", {type: "checkbox", checked: list.shown.has(metric.name)});
    box.addEventListener("change", () => { list.shown[box.checked ? "add" : "delete"](metric.name); drawList(); });
    return make("label", {}, box, ` ${metric.name}`);
  }));
}

function startList() {
  drawMetricChoices();
  byId("filter").addEventListener("input", debounced(() => { list.limit = RUNS_AT_ONCE; drawList(); keepState("runs"); }));
  byId("more-runs").addEventListener("click", () => { list.limit += RUNS_AT_ONCE; drawList(); });
  drawList();
}
