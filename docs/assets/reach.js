// What is wider than its place scrolls; then, and only then, the keyboard reaches it.
const kinds = {"div.arithmatex": "Formula", "pre > code": "Code", ".md-typeset__scrollwrap": "Table"}
const reachable = (element, kind) => {
  const scrolls = element.scrollWidth > element.clientWidth
  for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", `${kind}, scrolls sideways`]]) {
    if (scrolls && element.getAttribute(name) !== value) element.setAttribute(name, value)
    if (!scrolls && element.hasAttribute(name)) element.removeAttribute(name)
  }
}
for (const [selector, kind] of Object.entries(kinds)) {
  const elements = [...document.querySelectorAll(selector)]
  const shown = new ResizeObserver(entries => entries.forEach(entry => reachable(entry.target, kind)))
  document.fonts.ready.then(() => elements.forEach(element => reachable(element, kind)))
  for (const element of elements) {
    shown.observe(element)
    // The theme takes the attribute away where it has no button to copy.
    new MutationObserver(() => reachable(element, kind)).observe(element, {attributeFilter: ["tabindex"]})
  }
}
document.querySelector(".md-search[role=dialog]")?.setAttribute("aria-label", "Search")

// The theme adds the list of versions later, under a name that does not contain what is shown.
const topic = document.querySelector(".md-header__topic")
new MutationObserver(() => {
  const version = topic.querySelector(".md-version__current")
  version?.setAttribute("aria-label", `Version ${version.textContent.trim()}`)
}).observe(topic, {childList: true, subtree: true})
