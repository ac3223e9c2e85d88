// Plays stretches of recordings, and lets a picture of an alignment be heard where it is clicked.
(() => {
  let stop = 0;

  // Plays an <audio> from start to end (seconds), then does what follows; none where a new answer has replaced it.
  function play(audio, start, end, then) {
    if (!audio) return;
    for (const other of document.querySelectorAll("audio")) other.pause();
    clearInterval(stop);
    const begin = () => {
      audio.currentTime = start;
      audio.play().catch(() => {}); // a browser that plays nothing before a click
      stop = setInterval(() => {
        if (audio.ended || audio.paused || audio.currentTime >= end) {
          audio.pause();
          clearInterval(stop);
          if (then) then();
        }
      }, 20);
    };
    if (audio.readyState) begin();
    else {
      audio.addEventListener("loadedmetadata", begin, { once: true });
      audio.load();
    }
  }

  const found = (selector) => [...document.querySelectorAll(selector)].filter((audio) => audio.src).pop();

  function heard(button) {
    const { play: first, start, end, then, thenStart, thenEnd } = button.dataset;
    const next = then && (() => play(found(then), +thenStart, +thenEnd));
    play(found(first), +start, +end, next);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-play]");
    if (button) return heard(button);
    const picture = event.target.closest(".il-picture");
    const map = picture && picture.querySelector("image");
    if (!map) return;
    const box = map.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width;
    const down = (event.clientY - box.top) / box.height;
    if (across < 0 || across > 1 || down < 0 || down > 1) return;
    const [query, hit] = [down * picture.dataset.down, across * picture.dataset.across];
    play(found("#il-query"), Math.max(0, query - 0.3), query + 0.3, () =>
      play(found("#il-hit"), Math.max(0, hit - 0.3), hit + 0.3));
  });

  new MutationObserver(() => { // what is to be heard at once
    for (const button of document.querySelectorAll("[data-now]")) {
      button.removeAttribute("data-now");
      button.scrollIntoView({ block: "center", behavior: "smooth" });
      heard(button);
    }
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
