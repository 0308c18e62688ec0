"use strict";

SwaggerUIBundle({
  url: "/schema/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelExpandDepth: 2,
  validatorUrl: null, // it would be asked elsewhere
});
