// The theme requests the search index as soon as a page opens. This holds the request back until the search is used.
{
  const { open, send } = XMLHttpRequest.prototype
  const inUse = () => document.getElementById("__search")?.checked || /[?&][hq]=/.test(location.search)
  const isSearch = element => element.id === "__search" || element.dataset?.mdComponent === "search-query"

  XMLHttpRequest.prototype.open = function (method, url, ...others) {
    this.forSearch = String(url).endsWith("/search/search_index.json")
    return open.call(this, method, url, ...others)
  }

  XMLHttpRequest.prototype.send = function (body) {
    if (!this.forSearch || inUse()) return send.call(this, body)
    const events = ["focusin", "change"]
    const whenUsed = event => {
      if (!isSearch(event.target)) return
      for (const name of events) document.removeEventListener(name, whenUsed)
      send.call(this, body)
    }
    for (const name of events) document.addEventListener(name, whenUsed)
  }
}
