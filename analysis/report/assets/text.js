// Text of models as text: never as HTML, with the marks that a reader cannot see made visible.

const DIRECTION = {
  0x061c: "ALM", 0x200e: "LRM", 0x200f: "RLM", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI",
};
const UNSEEN = new RegExp(
  "([\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u200b\\u2028\\u2029" +
  "\\u2060\\ufeff]|[\\u{e0000}-\\u{e007f}])", "u");
const FOLD_AT = 1500, FOLD_AT_LINE = 30;

// make("p", {class: "note", text: "..."}, child, ...)
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name === "onclick") element.addEventListener("click", value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function byId(id) { return document.getElementById(id); }

function plural(count, word, many = `${word}s`) { return `${count.toLocaleString("en")} ${count === 1 ? word : many}`; }

// A node for each piece of text: plain, or a mark that stands for an invisible character.
function visibleNodes(text) {
  return text.split(UNSEEN).filter((piece) => piece !== "").map((piece, place) => {
    const code = piece.codePointAt(0);
    if (!UNSEEN.test(piece) || piece.length > 2) return document.createTextNode(piece);
    const hex = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
    return make("span", {class: "unseen", title: `${hex}: an invisible character in the answer`, text: DIRECTION[code] || hex});
  });
}

// The same as one string, where no element can stand.
function shownText(text) { return visibleNodes(text).map((node) => node.textContent).join(""); }

// The same with every occurrence of a lower-case query marked.
function markedNodes(text, query) {
  if (!query) return visibleNodes(text);
  const nodes = [], lower = text.toLowerCase();
  if (lower.length !== text.length) return visibleNodes(text);  // rare letters change length: no marks rather than wrong ones
  let from = 0;
  for (let at = lower.indexOf(query); at >= 0; at = lower.indexOf(query, from)) {
    nodes.push(...visibleNodes(text.slice(from, at)), make("mark", {}, ...visibleNodes(text.slice(at, at + query.length))));
    from = at + query.length;
  }
  return [...nodes, ...visibleNodes(text.slice(from))];
}

function occurrences(text, query) { return query ? text.toLowerCase().split(query).length - 1 : 0; }

// Cut where no pair of code units is torn.
function cutAt(text, place) {
  const code = text.charCodeAt(place - 1);
  return code >= 0xd800 && code < 0xdc00 ? place - 1 : place;
}

// Where a long text is folded: letters or lines, whichever end first; its end, if it is short.
function foldPlace(text) {
  let lines = 0, place = -1;
  do { place = text.indexOf("\n", place + 1); lines += 1; } while (place >= 0 && lines < FOLD_AT_LINE);
  const many = place < 0 ? text.length : place;
  if (text.length <= FOLD_AT * 1.2 && text.length - many < FOLD_AT / 5) return text.length;
  return cutAt(text, Math.min(FOLD_AT, many));
}

// A block of a model's text. Long text is folded; the button says how much there is and what the search finds in it.
function textBlock(text, length, query) {
  const body = make("bdi", {class: "text", dir: "auto"});
  if (text === "") body.append(make("span", {class: "empty", text: "empty answer"}));
  const cut = foldPlace(text);
  if (cut === text.length) {
    body.append(...markedNodes(text, query));
    return make("div", {class: "block-text"}, body);
  }
  const hidden = occurrences(text.slice(cut), query);
  const button = make("button", {type: "button", class: "fold", "aria-expanded": "false"});
  const show = (open) => {
    body.replaceChildren(...markedNodes(open ? text : text.slice(0, cut), query));
    if (!open) body.append(make("span", {class: "empty", text: " …"}));
    const found = hidden && !open ? `, ${plural(hidden, "match", "matches")} below` : "";
    button.textContent = open ? "Fold" : `Show all ${plural(length, "character")}${found}`;
    button.setAttribute("aria-expanded", String(open));
  };
  button.addEventListener("click", () => show(button.getAttribute("aria-expanded") === "false"));
  show(false);
  return make("div", {class: "block-text"}, body, button);
}

// Call once after the last of many calls.
function debounced(action, milliseconds = 150) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(action, milliseconds); };
}
