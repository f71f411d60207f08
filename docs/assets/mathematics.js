// A formula that is wider than its place scrolls; then, and only then, the keyboard reaches it.
const shown = new ResizeObserver(entries => entries.forEach(entry => reachable(entry.target)))
const reachable = formula => {
  const scrolls = formula.scrollWidth > formula.clientWidth
  for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", "Formula, scrolls sideways"]])
    scrolls ? formula.setAttribute(name, value) : formula.removeAttribute(name)
}
const formulas = [...document.querySelectorAll("div.arithmatex")]
document.fonts.ready.then(() => formulas.forEach(reachable))
formulas.forEach(formula => shown.observe(formula))
