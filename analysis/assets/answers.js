// Two runs' answers to the same instructions, with verdicts and lengths; only what is looked at is drawn.

const ITEMS_AT_ONCE = 20;
const EQUAL = 1e-9;
const pair = {a: null, b: null, items: [], found: [], drawn: 0, turn: 0};

function choose(side, index) {
  pair[side] = index;
  byId(`run-${side}`).value = String(index);
  markPicked();
  return load();
}

// Reads both runs; a choice made meanwhile wins.
async function load() {
  const turn = ++pair.turn;
  byId("pair").setAttribute("aria-busy", "true");
  try {
    const [first, second] = await Promise.all([answersOf(pair.a), answersOf(pair.b)]);
    if (turn !== pair.turn) return;
    pair.annotators = {a: first.annotators, b: second.annotators};
    pair.items = [...first.answers.keys()].filter((item) => second.answers.has(item))
      .map((item) => ({a: first.answers.get(item), b: second.answers.get(item)}));
    pair.only = first.answers.size + second.answers.size - 2 * pair.items.length;
    drawCategories();
    drawSummary();
    drawItems();
    byId("pair").setAttribute("aria-busy", "false");
  } catch (error) {
    byId("pair").textContent = `The answers cannot be unpacked here: ${error.message}. A browser of 2023 or newer can.`;
  }
}

function sameJudge() { return DATA.runs[pair.a].judge === DATA.runs[pair.b].judge; }

function outcome(item) {
  if (item.a.wins === null || item.b.wins === null) return "none";
  const difference = item.b.wins - item.a.wins;
  return Math.abs(difference) < EQUAL ? "equal" : difference > 0 ? "b" : "a";
}

function mean(values) { return values.reduce((sum, value) => sum + value, 0) / values.length; }

// Mean difference in percentage points with 1.96 standard errors over instructions.
function difference(items) {
  const values = items.map((item) => 100 * (item.b.wins - item.a.wins)), center = mean(values);
  const error = Math.sqrt(values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1) / values.length);
  const spread = values.length > 1 ? ` ± ${(1.96 * error).toFixed(1)}` : "";
  return `${center >= 0 ? "+" : "−"}${Math.abs(center).toFixed(1)}${spread} percentage points`;
}

function summaryText() {
  const judged = pair.items.filter((item) => outcome(item) !== "none");
  const lengths = ["a", "b"].map((side) => Number(mean(pair.items.map((item) => item[side].length)).toPrecision(3)).toLocaleString("en"));
  const said = [`${plural(pair.items.length, "common instruction")}`, `mean length A ${lengths[0]}, B ${lengths[1]} characters`];
  if (pair.only) said.push(`${plural(pair.only, "answer")} to instructions that only one of the two answered: not shown`);
  if (!judged.length) return `${said.join("; ")}; no verdicts.`;
  const counts = {a: 0, b: 0, equal: 0};
  judged.forEach((item) => { counts[outcome(item)] += 1; });
  const verdicts = `B better on ${counts.b}, worse on ${counts.a}, equal on ${counts.equal}`;
  if (!sameJudge()) return `${said.join("; ")}. Different judges: their verdicts do not compare.`;
  return `${said.join("; ")}. ${verdicts}; B − A: ${difference(judged)} (1.96 standard errors over instructions; these two runs only).`;
}

function drawSummary() {
  const runs = [DATA.runs[pair.a], DATA.runs[pair.b]];
  const differing = DATA.settings.map((name, place) => [name, runs[0].values[place], runs[1].values[place]]).filter(([, a, b]) => a !== b);
  const rows = differing.map(([name, a, b]) => make("tr", {}, make("th", {scope: "row", text: name}), ...[a, b].map((text) => make("td", {}, make("bdi", {text})))));
  const heads = ["setting", "A", "B"].map((text) => make("th", {scope: "col", text}));
  const table = make("table", {class: "plain"}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
  const judges = [...new Set([...pair.annotators.a, ...pair.annotators.b])].join(", ") || "none";
  const settings = make("details", {}, make("summary", {text: plural(differing.length, "setting differs", "settings differ")}), make("div", {class: "scroll"}, table));
  byId("pair").replaceChildren(
    make("p", {class: pair.items.length && sameJudge() ? false : "caution", text: pair.items.length ? summaryText() : "No instruction was answered by both."}),
    make("p", {class: "note"}, "Judge: ", make("bdi", {text: judges}), ". A verdict is on an answer against the reference."), settings);
}

function drawCategories() {
  const kept = byId("category").value;
  const names = [...new Set(pair.items.map((item) => item.a.category).filter((name) => name !== null))].sort();
  const options = [make("option", {value: "", text: "all"}), ...names.map((name) => make("option", {value: name, text: name}))];
  byId("category").replaceChildren(...options);
  byId("category").value = names.includes(kept) ? kept : "";
}

const ORDERS = {
  given: null,
  change: (one, other) => Math.abs(other.b.length - other.a.length) - Math.abs(one.b.length - one.a.length),
  longest: (one, other) => Math.max(other.a.length, other.b.length) - Math.max(one.a.length, one.b.length),
  shortest: (one, other) => Math.min(one.a.length, one.b.length) - Math.min(other.a.length, other.b.length),
};

function isWanted(item, query, verdicts, category) {
  const result = outcome(item);
  if (verdicts === "differ" ? result !== "a" && result !== "b" : verdicts !== "all" && result !== verdicts) return false;
  if (category && item.a.category !== category) return false;
  return !query || [item.a.instruction, item.a.output, item.b.output].some((text) => text.toLowerCase().includes(query));
}

function drawItems() {
  const [verdicts, category, order] = ["verdicts", "category", "order"].map((id) => byId(id).value);
  pair.query = byId("search").value.toLowerCase();
  pair.found = pair.items.filter((item) => isWanted(item, pair.query, verdicts, category));
  if (ORDERS[order]) pair.found.sort(ORDERS[order]);
  pair.drawn = 0;
  byId("items").replaceChildren();
  byId("matches").textContent = `${pair.found.length} of ${plural(pair.items.length, "common instruction")}`;
  drawMoreItems();
}

function drawMoreItems() {
  const next = pair.found.slice(pair.drawn, pair.drawn + ITEMS_AT_ONCE);
  byId("items").append(...next.map(drawItem));
  pair.drawn += next.length;
  const rest = pair.found.length - pair.drawn, more = byId("more-items");
  more.hidden = rest <= 0;
  more.textContent = `Show ${Math.min(rest, ITEMS_AT_ONCE)} more of ${rest}`;
}

function verdictText(wins) {
  if (wins === null) return ["no verdict", "none"];
  const word = wins > 0.5 ? "wins" : wins < 0.5 ? "loses" : "draw";
  return [wins === 0 || wins === 1 || wins === 0.5 ? word : `${word} (${wins.toFixed(2)})`, word];
}

function drawAnswer(side, answer, other) {
  const [text, kind] = verdictText(answer.wins), change = answer.length - other.length;
  const badge = make("span", {class: `verdict ${kind}`, text});
  const length = side === "b" && change ? `${plural(answer.length, "character")} (${change > 0 ? "+" : "−"}${Math.abs(change).toLocaleString("en")})` : plural(answer.length, "character");
  const head = make("h4", {}, make("span", {class: "side", text: side.toUpperCase()}), " ", badge, " ", make("span", {class: "note", text: length}));
  const block = textBlock(answer.output, answer.length, pair.query);
  return make("section", {class: "answer", "aria-label": `Answer of ${side.toUpperCase()}`}, head, block, ...drawReply(answer.reply));
}

// What the judge wrote, if it writes.
function drawReply(reply) {
  if (reply === "") return [];
  return [make("details", {class: "reference"}, make("summary", {text: "Judge's reply"}), textBlock(reply, [...reply].length, ""))];
}

function drawReference(answers) {
  const text = answers.a.reference;
  if (text === null) return [];
  const different = answers.b.reference !== text;
  const block = (reference) => textBlock(reference ?? "", [...(reference ?? "")].length, "");
  const summary = different ? "References (A and B were judged against different ones)" : "Reference answer";
  const inside = make("div", {class: different ? "sides" : "one"}, block(text), ...(different ? [block(answers.b.reference)] : []));
  return [make("details", {class: "reference"}, make("summary", {text: summary}), inside)];
}

function drawItem(answers) {
  const {item, instruction, category} = answers.a;
  const head = make("p", {class: "number-of"}, `#${item + 1}`, ...(category === null ? [] : [" · ", make("bdi", {text: category})]));
  const asked = make("h3", {class: "instruction"}, textBlock(instruction, [...instruction].length, pair.query));
  const sides = make("div", {class: "sides"}, drawAnswer("a", answers.a, answers.b), drawAnswer("b", answers.b, answers.a));
  return make("li", {class: "item"}, head, asked, sides, ...drawReference(answers));
}

function startAnswers() {
  const options = () => DATA.answers.map((index) => make("option", {value: index, text: `${runTitle(DATA.runs[index])} · ${DATA.runs[index].id}`}));
  for (const side of ["a", "b"]) {
    byId(`run-${side}`).append(...options());
    byId(`run-${side}`).addEventListener("change", (event) => choose(side, Number(event.target.value)));
  }
  byId("swap").addEventListener("click", () => { [pair.a, pair.b] = [pair.b, pair.a]; choose("a", pair.a); choose("b", pair.b); });
  byId("search").addEventListener("input", debounced(drawItems));
  ["verdicts", "category", "order"].forEach((id) => byId(id).addEventListener("change", drawItems));
  byId("more-items").addEventListener("click", drawMoreItems);
  if (!DATA.answers.length) { byId("pair").textContent = "No run in this page has answers."; return; }
  pair.a = DATA.answers[0];
  pair.b = DATA.answers.find((index) => DATA.runs[index].labels[0] !== DATA.runs[pair.a].labels[0]) ?? DATA.answers[1] ?? pair.a;
  ["a", "b"].forEach((side) => { byId(`run-${side}`).value = String(pair[side]); });
  return load();
}
