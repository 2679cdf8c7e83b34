// Two runs' answers to the same instructions, with verdicts and lengths; only what is looked at is drawn.

const ITEMS_AT_ONCE = 20;
const EQUAL = 1e-9;
const pair = {a: null, b: null, items: [], found: [], drawn: 0, turn: 0, category: null};
const NO_ANSWERS = {answers: new Map(), annotators: []};

function hasAnswers(index) { return DATA.answers.includes(index); }

function setSide(side, index) {
  pair[side] = index;
  byId(`run-${side}`).value = String(index);
  markPicked();
}

function choose(side, index) {
  setSide(side, index);
  keepState("answers", true);
  return load();
}

// Reads both runs; a choice made meanwhile wins.
async function load() {
  const turn = ++pair.turn;
  byId("pair").setAttribute("aria-busy", "true");
  try {
    const [first, second] = await Promise.all([pair.a, pair.b].map((index) => (hasAnswers(index) ? answersOf(index) : NO_ANSWERS)));
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

// Verdicts compare where one judge held both answers against one reference.
function outcome(item) {
  if (!sameJudge() || item.a.reference !== item.b.reference) return "none";
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
  const unlike = pair.items.filter((item) => item.a.reference !== item.b.reference).length;
  const lengths = ["a", "b"].map((side) => Number(mean(pair.items.map((item) => item[side].length)).toPrecision(3)).toLocaleString("en"));
  const said = [`${plural(pair.items.length, "common instruction")}`, `mean length A ${lengths[0]}, B ${lengths[1]} characters`];
  if (pair.only) said.push(`${plural(pair.only, "answer")} to instructions that only one of the two answered: not shown`);
  if (unlike) said.push(`${plural(unlike, "instruction")} with different references: their verdicts do not compare`);
  if (!sameJudge()) return `${said.join("; ")}. Different judges: their verdicts do not compare.`;
  if (!judged.length) return `${said.join("; ")}; no verdicts.`;
  const counts = {a: 0, b: 0, equal: 0};
  judged.forEach((item) => { counts[outcome(item)] += 1; });
  const without = pair.items.length - judged.length - unlike;
  const verdicts = `B better on ${counts.b}, worse on ${counts.a}, equal on ${counts.equal}${without ? `, ${without} without a verdict in both` : ""}`;
  return `${said.join("; ")}. ${verdicts}; B − A: ${difference(judged)} (${judged.length > 1 ? "1.96 standard errors over instructions; " : ""}these two runs only).`;
}

// What there is to read of two runs whose answers cannot be laid side by side.
function whyNoItems() {
  const without = ["a", "b"].filter((side) => !hasAnswers(pair[side])).map((side) => side.toUpperCase());
  if (without.length) return `This page has no answers of ${without.join(" and ")}; settings and numbers are below.`;
  return "No instruction was answered by both.";
}

// A table that opens: rows of a name and texts.
function openingTable(title, heads, rows) {
  const cells = rows.map(([name, ...texts]) => make("tr", {}, make("th", {scope: "row", text: name}), ...texts.map((text) => make("td", {}, make("bdi", {text})))));
  const head = make("tr", {}, ...heads.map((text) => make("th", {scope: "col", text})));
  const table = make("table", {class: "plain"}, make("thead", {}, head), make("tbody", {}, ...cells));
  return make("details", {}, make("summary", {text: title}), make("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": title}, table));
}

function settingsTable(a, b) {
  const rows = DATA.settings.map((name, place) => [name, a.values[place], b.values[place]]).filter(([, ours, theirs]) => ours !== theirs);
  return openingTable(plural(rows.length, "setting differs", "settings differ"), ["setting", "A", "B"], rows);
}

// Every number of either run; win rates of different judges have no difference.
function numbersTable(a, b) {
  const rows = DATA.metrics.map((metric, place) => [metric, a.numbers[place], b.numbers[place]]).filter(([, ...both]) => both.some((value) => value !== null));
  const texts = rows.map(([metric, ours, theirs]) => {
    const compares = ours !== null && theirs !== null && (sameJudge() || !metric.name.startsWith("judge/"));
    const change = compares ? `${theirs < ours ? "−" : "+"}${numberText(metric, Math.abs(theirs - ours))}` : "";
    return [metric.name, numberText(metric, ours), numberText(metric, theirs), change];
  });
  return openingTable(plural(rows.length, "number"), ["number", "A", "B", "B − A"], texts);
}

function drawSummary() {
  const [a, b] = [DATA.runs[pair.a], DATA.runs[pair.b]];
  const names = [...new Set([...pair.annotators.a, ...pair.annotators.b])], judges = names.join(", ") || "none";
  const isChecked = names.length > 0 && names.every((name) => name.endsWith(":checker"));
  const meaning = isChecked ? "A right answer draws with the reference, which is right, too; a wrong one loses." : "A verdict is on an answer against the reference.";
  byId("pair").replaceChildren(
    make("p", {class: pair.items.length && sameJudge() ? false : "caution", text: pair.items.length ? summaryText() : whyNoItems()}),
    make("p", {class: "note"}, "Judge: ", make("bdi", {}, ...visibleNodes(judges)), `. ${meaning}`),
    settingsTable(a, b), numbersTable(a, b));
}

function drawCategories() {
  const kept = pair.category ?? byId("category").value;
  pair.category = null;
  const names = [...new Set(pair.items.map((item) => item.a.category).filter((name) => name !== null))].sort();
  const options = [make("option", {value: "", text: "all"}), ...names.map((name) => make("option", {value: name}, shownText(name)))];
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
  return make("section", {class: "answer", "aria-label": `Answer of ${side.toUpperCase()} to #${answer.item + 1}`}, head, block, ...drawReply(answer.reply));
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
  const head = make("p", {class: "number-of"}, `#${item + 1}`, ...(category === null ? [] : [" · ", make("bdi", {}, ...visibleNodes(category))]));
  const asked = make("h3", {class: "instruction"}, textBlock(instruction, [...instruction].length, pair.query));
  const sides = make("div", {class: "sides"}, drawAnswer("a", answers.a, answers.b), drawAnswer("b", answers.b, answers.a));
  return make("li", {class: "item"}, head, asked, sides, ...drawReference(answers));
}

// A reader wants the answers whose verdicts differ; where none do, all.
function openOnDifferences() {
  if (pair.found.length || !pair.items.length) return;
  byId("verdicts").value = "all";
  drawItems();
}

function startAnswers() {
  const options = () => list.runs.map((run) => make("option", {value: run.index, text: `${runTitle(run)} · ${run.id}${hasAnswers(run.index) ? "" : " (no answers here)"}`}));
  for (const side of ["a", "b"]) {
    byId(`run-${side}`).append(...options());
    byId(`run-${side}`).addEventListener("change", (event) => choose(side, Number(event.target.value)));
  }
  byId("swap").addEventListener("click", () => { const before = pair.a; setSide("a", pair.b); choose("b", before); });
  const narrow = () => { drawItems(); keepState("answers"); };
  byId("search").addEventListener("input", debounced(narrow));
  ["verdicts", "category", "order"].forEach((id) => byId(id).addEventListener("change", narrow));
  byId("more-items").addEventListener("click", drawMoreItems);
  const first = DATA.answers.length ? DATA.answers : list.runs.map((run) => run.index);
  setSide("a", first[0]);
  const others = first.filter((index) => DATA.runs[index].labels[0] !== DATA.runs[pair.a].labels[0]);
  setSide("b", others.find((index) => DATA.runs[index].judge === DATA.runs[pair.a].judge) ?? others[0] ?? first[1] ?? pair.a);
  return load().then(openOnDifferences);
}
