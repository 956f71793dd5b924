SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#interface",
  // The default is a validator on the network.
  validatorUrl: null,
  onComplete: () => { document.body.dataset.ready = "drawn"; },
});
