// Starts the page.

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

byId("theme").addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; });
addEventListener("keydown", (event) => {
  const menu = document.querySelector(".menu[open]");
  if (event.key === "Escape" && menu) { menu.open = false; menu.querySelector("summary").focus(); }
});
// Only what scrolls is a stop for the keyboard.
const scrolling = new ResizeObserver((entries) => {
  for (const {target} of entries) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
});
document.querySelectorAll(".scroll").forEach((region) => scrolling.observe(region));
// On paper everything that can be opened is open, and a table that is wider than the page is made smaller.
const PAPER_WIDTH = 640, PRINT_TO_SCREEN = 0.78;  // pixels of A4 or letter; size of a table's letters
let openedForPrint = [];
function preparePaper() {
  openedForPrint = [...document.querySelectorAll("details.block:not([open])")];
  openedForPrint.forEach((details) => { details.open = true; });
  for (const table of document.querySelectorAll(".scroll > table")) {
    const fit = PAPER_WIDTH / (PRINT_TO_SCREEN * table.scrollWidth);
    table.style.setProperty("--fit", Math.min(1, fit).toFixed(3));
  }
}
addEventListener("beforeprint", preparePaper);
addEventListener("afterprint", () => openedForPrint.forEach((details) => { details.open = false; }));

startList();
startExports();
startAnswers().then(startState).then(() => { document.documentElement.dataset.ready = "yes"; });
