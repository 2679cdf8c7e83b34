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
// On paper everything that can be opened is open.
let openedForPrint = [];
addEventListener("beforeprint", () => {
  openedForPrint = [...document.querySelectorAll("details.block:not([open])")];
  openedForPrint.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => openedForPrint.forEach((details) => { details.open = false; }));

startList();
startExports();
startAnswers().then(startState).then(() => { document.documentElement.dataset.ready = "yes"; });
