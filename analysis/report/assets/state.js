// What the page shows, kept in its address: a link opens it again, and the back button leads to the pair before.

const FIELDS = {filter: "", search: "", verdicts: "differ", category: "", order: "given"};
let isRestoring = false;

function stateOf() {
  const state = new URLSearchParams();
  for (const side of ["a", "b"]) if (pair[side] !== null) state.set(side, DATA.runs[pair[side]].id);
  for (const [id, usual] of Object.entries(FIELDS)) if (byId(id).value !== usual) state.set(id, byId(id).value);
  if (list.key !== null) state.set("sort", (list.descending ? "-" : "") + list.key);
  return state;
}

// section: where a link leads to. A new pair is a step that the back button takes; a typed letter is none.
function keepState(section, isStep = false) {
  if (isRestoring) return;
  history[isStep ? "pushState" : "replaceState"](null, "", `#${section}?${stateOf()}`);
}

// Shows what the address says, if it says anything.
async function restoreState() {
  const [section, said] = location.hash.slice(1).split(/\?(.*)/s);
  if (said === undefined) return;
  isRestoring = true;
  try {
    const state = new URLSearchParams(said), sort = state.get("sort");
    for (const [id, usual] of Object.entries(FIELDS)) if (id !== "category") byId(id).value = state.get(id) ?? usual;
    list.descending = sort !== null && sort.startsWith("-");
    list.key = sort === null ? null : sort.replace(/^-/, "");
    for (const side of ["a", "b"]) {
      const found = list.runs.find((run) => run.id === state.get(side));
      if (found) setSide(side, found.index);
    }
    pair.category = state.get("category") ?? "";
    drawList();
    await load();
    byId(section)?.scrollIntoView();
  } finally { isRestoring = false; }
}

function startState() {
  addEventListener("popstate", restoreState);
  return restoreState();
}
