"use strict";
// A live page asks for itself every few seconds, and takes over what has changed.
(() => {
  const every = 5000;
  let etag = document.documentElement.dataset.etag;
  const say = (words) => {
    const place = document.getElementById("live");
    if (place && place.textContent !== words) place.textContent = words;
  };
  // A chart that is drawn moves into the new section, in the place of the empty one.
  const keepCharts = (old, fresh) => {
    for (const empty of fresh.querySelectorAll("[data-figure]")) {
      const drawn = old.querySelector(`[data-figure="${CSS.escape(empty.dataset.figure)}"][data-drawn]`);
      if (drawn) empty.replaceWith(drawn);
    }
    const open = [...old.querySelectorAll("details")].map((node) => node.open);
    fresh.querySelectorAll("details").forEach((node, i) => { node.open = open[i] || false; });
  };
  const update = async (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    const [data, newData] = [document, fresh].map((each) => each.getElementById("data"));
    if (!data !== !newData) return location.reload(); // the first figures are there
    const [olds, news] = [document, fresh].map((each) => [...each.querySelectorAll("header, main")]);
    if (olds.length !== news.length) return location.reload();
    const replace = () => {
      document.title = fresh.title;
      news.forEach((node, i) => {
        keepCharts(olds[i], node);
        olds[i].replaceWith(document.adoptNode(node));
      });
    };
    if (data) await window.imbtuneUpdate(newData.textContent, replace);
    else window.imbtuneInPlace(replace);
  };
  const poll = async () => {
    try {
      if (!document.hidden) {
        const answer = await fetch(location.href, { cache: "no-store", headers: { "If-None-Match": etag } });
        if (answer.status === 200) {
          etag = answer.headers.get("etag");
          await update(await answer.text());
        } else if (answer.status !== 304 && answer.status !== 404) throw new Error(answer.status);
        const time = new Date().toISOString().slice(11, 19);
        say(answer.status === 404 ? "Live: the server has no such study, or cannot read it now." : `Live: as of ${time} UTC.`);
      }
    } catch {
      say("The server does not answer: this page is as it was then. It goes on when the server does.");
    }
    setTimeout(poll, every);
  };
  say("Live: looks for changes every 5 seconds.");
  setTimeout(poll, every);
})();
