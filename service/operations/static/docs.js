// Start Swagger UI. The page's Content-Security-Policy allows no script inside the page.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  // The public validator would need the network, and would learn the document.
  validatorUrl: null,
  // Collapse the schemas at the end of the page.
  defaultModelsExpandDepth: 0,
  // A person pastes the token alone. The API requires "Token <jwt>".
  requestInterceptor: (request) => {
    const given = (request.headers.Authorization ?? "").trim();
    if (given && !given.includes(" ")) {
      request.headers.Authorization = `Token ${given}`;
    }
    return request;
  },
});
