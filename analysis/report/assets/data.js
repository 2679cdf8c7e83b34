// The study's data: run list from one JSON element, answers of a run unpacked when they are first asked for.

const DATA = JSON.parse(byId("data").textContent);
const METRIC_PLACES = new Map(DATA.metrics.map((metric, place) => [metric.name, place]));
const SETTING_PLACES = new Map(DATA.settings.map((name, place) => [name, place]));
const COLUMN_PLACES = new Map(DATA.columns.map((name, place) => [name, place]));
const unpackedRuns = new Map();

function numberText(metric, value) {
  if (value === null) return "—";
  return metric.decimals === null ? String(Number(value.toPrecision(4))) : value.toFixed(metric.decimals);
}

function metricTitle(metric) {
  const arrow = {higher: " ↑", lower: " ↓", neither: ""}[metric.better];
  return (metric.unit ? `${metric.header} (${metric.unit})` : metric.header) + arrow;
}

// "symnoise, alpha 5, seed 0, ...": what tells a run from the others.
function runTitle(run) {
  const said = DATA.columns.map((name, place) => [name, run.labels[place]])
    .filter(([, value]) => value !== "" && value !== "unset")
    .map(([name, value]) => (name === "noise" ? value : `${name} ${value}`));
  return said.join(", ") + (run.status === "finished" ? "" : ` (${run.status})`);
}

async function unpack(element) {
  const bytes = Uint8Array.from(atob(element.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// A run's answers with instruction, category and reference beside each.
async function answersOf(index) {
  if (!unpackedRuns.has(index)) unpackedRuns.set(index, unpackRun(index));
  return unpackedRuns.get(index);
}

async function unpackRun(index) {
  if (!unpackedRuns.has("shared")) unpackedRuns.set("shared", unpack(byId("shared")));
  const shared = await unpackedRuns.get("shared"), own = await unpack(byId(`run-${index}`));
  const answers = own.items.map((item, place) => ({
    item, place, ...shared[item],
    reference: place in own.references ? own.references[place] : shared[item].reference,
    reply: own.replies[place] ?? "", output: own.outputs[place], length: own.lengths[place], wins: own.wins[place],
  }));
  return {answers: new Map(answers.map((answer) => [answer.item, answer])), annotators: own.annotators};
}
