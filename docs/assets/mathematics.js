// Renders what arithmatex has marked, with the KaTeX beside this file; the build has tried every formula before.
for (const element of document.querySelectorAll(".arithmatex")) {
  katex.render(element.textContent.trim().slice(2, -2), element, {
    displayMode: element.tagName === "DIV",
    throwOnError: true,
    strict: "error",
  })
}
