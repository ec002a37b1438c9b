"use strict";
// What the reader looks at stays in its place in the window while figures and rows change the height of the page.
(() => {
  const marks = "main h2[id], main figure[id], main [data-figure], main tr[id]";
  const isHeld = CSS.supports("overflow-anchor", "auto"); // by the browser, where nothing is replaced
  const root = document.documentElement;
  const nav = document.querySelector("nav");
  const pad = () => {
    const covers = nav && getComputedStyle(nav).position === "sticky";
    root.style.scrollPaddingTop = `${(covers ? nav.offsetHeight : 0) + 16}px`;
  };
  const found = (query) => (query ? document.querySelector(query) : null);
  const query = (element) => (element.id ? `[id="${CSS.escape(element.id)}"]` : `[data-figure="${CSS.escape(element.dataset.figure)}"]`);

  // The heading, figure or row nearest to the top of the window, and how far below it.
  const nearest = () => {
    if (!scrollY) return null;
    const edge = parseFloat(root.style.scrollPaddingTop);
    let best = null;
    for (const element of document.querySelectorAll(marks)) {
      const { top, height } = element.getBoundingClientRect();
      if (height && (!best || Math.abs(top - edge) < Math.abs(best.top - edge))) best = { element, top };
    }
    return best && { query: query(best.element), top: best.top };
  };
  const restore = (place) => {
    const element = found(place?.query);
    if (element) scrollBy({ top: element.getBoundingClientRect().top - place.top, behavior: "instant" });
  };

  // The target of a link, until the reader scrolls: figures above it may be drawn after the jump.
  let target = "";
  const aim = (hash) => {
    target = hash.length > 1 ? `[id="${CSS.escape(hash.slice(1))}"]` : "";
  };
  const jump = () => found(target)?.scrollIntoView({ behavior: "instant" });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (link) aim(link.hash);
  });
  addEventListener("hashchange", () => {
    aim(location.hash);
    const top = found(target)?.getBoundingClientRect().top ?? -1;
    if (top < 0 || top > innerHeight) target = ""; // Back leads to where the reader was, which is elsewhere
  });
  for (const gesture of ["wheel", "touchmove", "keydown", "pointerdown"])
    addEventListener(gesture, () => { target = ""; }, { passive: true, capture: true });

  let place = null;
  addEventListener("scroll", () => { if (!isHeld) place = nearest(); }, { passive: true });
  new ResizeObserver(() => {
    pad();
    if (target) jump();
    else if (!isHeld) restore(place);
  }).observe(document.body);

  pad();
  aim(location.hash);
  jump();
  // For a change of the page that replaces elements.
  window.imbtuneInPlace = (change) => {
    const before = nearest();
    change();
    if (target) jump();
    else restore(before);
  };
})();
