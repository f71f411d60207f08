// Draws a figure again when one of its sliders moves: the same lines on the axes of the static figure.
{
  // From the data of a panel to its place in the SVG; `frame` has two corners of the axes, first in the data.
  const placing = frame => {
    const [x0, y0, x1, y1, left, bottom, right, top] = frame.split(" ").map(Number)
    return ([x, y]) => [
      left + ((x - x0) / (x1 - x0)) * (right - left),
      bottom + ((y - y0) / (y1 - y0)) * (top - bottom),
    ]
  }

  const draw = (group, points) => {
    group.querySelector(":scope > path")?.setAttribute("d", "M" + points.map(point => point.join(" ")).join("L"))
    const marks = group.querySelector(":scope > g")
    if (!marks) return
    const pattern = marks.firstElementChild
    marks.replaceChildren(
      ...points.map(([x, y]) => {
        const mark = pattern.cloneNode()
        mark.setAttribute("x", x)
        mark.setAttribute("y", y)
        return mark
      }),
    )
  }

  for (const sliders of document.querySelectorAll(".figure > .sliders")) {
    const figure = sliders.parentElement
    const panels = [...figure.querySelectorAll("[data-frame]")]
    const inputs = [...sliders.querySelectorAll("input")]
    const formula = figureFormulas[figure.id.replace("figure-", "")]

    const show = () => {
      for (const input of inputs) input.nextElementSibling.textContent = input.value
      const values = Object.fromEntries(inputs.map(input => [input.name, input.valueAsNumber]))
      formula(values).forEach((lines, panel) => {
        const place = placing(panels[panel].dataset.frame)
        const groups = panels[panel].querySelectorAll('[id*="-line-"]')
        lines.forEach((points, line) => draw(groups[line], points.map(place)))
      })
    }

    sliders.addEventListener("input", show)
    sliders.hidden = false
    figure.querySelector(".start").hidden = true // from now on the sliders say it
    show() // a browser may have kept values
  }
}
