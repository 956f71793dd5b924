const night = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", night.matches);
night.addEventListener("change", follow);
follow();

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#interface",
  // The default is a validator on the network.
  validatorUrl: null,
  onComplete: () => { document.body.dataset.ready = "drawn"; },
});
