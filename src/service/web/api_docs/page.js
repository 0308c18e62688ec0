"use strict";

// This file is SERVICE/schema/assets/SEAL/page.js: so the page knows the service's address behind a path prefix, too.
const script = /** @type {HTMLScriptElement} */ (document.currentScript).src;
const documentAddress = new URL("../../openapi.json", script).href;
const service = new URL("../../..", script).href.replace(/\/$/, "");

SwaggerUIBundle({
  url: documentAddress,
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelExpandDepth: 2,
  validatorUrl: null, // it would be asked elsewhere
  responseInterceptor: (response) => {
    if (response.url === documentAddress && response.ok) {
      response.text = JSON.stringify({ ...JSON.parse(response.text), servers: [{ url: service }] });
    }
    return response;
  },
});
