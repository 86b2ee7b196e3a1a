// Starts Swagger UI. In a file of its own, since the page's policy runs no script within the page.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  // The public validator would need the network, and would learn the document.
  validatorUrl: null,
});
