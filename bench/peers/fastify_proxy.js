// A plain proxy with @fastify/http-proxy. PORT, UPSTREAM (a URL).
'use strict';

const app = require('fastify')({ logger: false });

app.register(require('@fastify/http-proxy'), {
  upstream: process.env.UPSTREAM,
  undici: { connections: Number(process.env.UPSTREAM_CONNECTIONS), pipelining: 1 },
});

app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
