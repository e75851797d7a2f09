// GET /api/data in Fastify, with pg. PORT and what tiers.js reads.
'use strict';

const { randomBytes } = require('node:crypto');
const { tiers, problem, REQUEST_ID } = require('./tiers.js');

const app = require('fastify')({ logger: false });

// Declared, the answer is written by a function made for it; that is Fastify's own way.
const ROWS = {
  type: 'array',
  items: {
    type: 'object',
    properties: {
      id: { type: 'integer' },
      tier: { type: 'string' },
      payload: { type: 'object', additionalProperties: true },
      created_at: { type: 'string', format: 'date-time' },
    },
  },
};

app.decorateRequest('tier', null);

app.addHook('onRequest', (request, reply, done) => {
  const given = request.headers['x-request-id'];
  reply.header('x-request-id', given && REQUEST_ID.test(given) ? given : randomBytes(16).toString('hex'));
  reply.header('cache-control', 'no-store');
  reply.header('x-content-type-options', 'nosniff');
  done();
});

app.setErrorHandler((error, request, reply) => {
  reply.code(503).type('application/problem+json');
  reply.send(JSON.stringify(problem(503, 'database_unavailable', 'Database unavailable')));
});

function identify(request, reply, done) {
  const tier = tiers.get(request.headers['x-tenant-tier']);
  if (tier === undefined) {
    reply.code(400).type('application/problem+json');
    reply.send(JSON.stringify(problem(400, 'tenant_tier_invalid', 'Unknown tier')));
    return;
  }
  request.tier = tier;
  done();
}

function limit(request, reply, done) {
  const { quota } = request.tier;
  if (quota !== null) {
    const taken = quota.take();
    reply.header('x-ratelimit-limit', quota.limit);
    reply.header('x-ratelimit-remaining', taken.remaining);
    reply.header('x-ratelimit-reset', taken.reset);
    if (!taken.allowed) {
      reply.header('retry-after', taken.retryAfter);
      reply.code(429).type('application/problem+json');
      reply.send(JSON.stringify(problem(429, 'rate_limited', 'Rate limit exceeded')));
      return;
    }
  }
  done();
}

app.get('/health', async () => ({ status: 'healthy' }));

app.get(
  '/api/data',
  { onRequest: [identify, limit], schema: { response: { 200: ROWS } } },
  (request) => request.tier.rows(),
);

app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
