"use strict";

// This file is at {service}/schema/assets/{digest}/page.js. Its URL gives the service's URL, also behind a path prefix.
const script = /** @type {HTMLScriptElement} */ (document.currentScript).src;
const documentUrl = new URL("../../openapi.json", script).href;
const serviceUrl = new URL("../../..", script).href.replace(/\/$/, "");

SwaggerUIBundle({
  url: documentUrl,
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelExpandDepth: 2,
  validatorUrl: null, // the default is a service on another host
  responseInterceptor: (response) => {
    if (response.url === documentUrl && response.ok) {
      response.text = JSON.stringify({ ...JSON.parse(response.text), servers: [{ url: serviceUrl }] });
    }
    return response;
  },
});
