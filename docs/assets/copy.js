// A link to a text that can be copied becomes a button that copies it.
for (const link of document.querySelectorAll("a[data-copies]")) {
  const button = Object.assign(document.createElement("button"), {type: "button", className: link.className, textContent: link.textContent})
  const says = text => {
    button.textContent = text
    document.querySelector(".actions [role=status]").textContent = text === "copied" ? `${link.textContent}: copied` : ""
  }
  button.addEventListener("click", async () => {
    const text = document.querySelector(`${link.hash} code`).textContent
    try {
      await navigator.clipboard.writeText(text)
      says("copied")
      setTimeout(() => says(link.textContent), 2000)
    } catch {
      location.hash = link.hash // not allowed here: the reader copies it there
    }
  })
  link.replaceWith(button)
}
