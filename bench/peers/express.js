// GET /api/data in Express, with pg. PORT and what tiers.js reads.
'use strict';

const { randomBytes } = require('node:crypto');
const express = require('express');
const { tiers, problem, REQUEST_ID } = require('./tiers.js');

const app = express();
app.disable('x-powered-by');
app.set('etag', false);

app.use((request, response, next) => {
  const given = request.get('x-request-id');
  response.set('X-Request-Id', given && REQUEST_ID.test(given) ? given : randomBytes(16).toString('hex'));
  response.set('Cache-Control', 'no-store');
  response.set('X-Content-Type-Options', 'nosniff');
  next();
});

function identify(request, response, next) {
  const tier = tiers.get(request.get('x-tenant-tier'));
  if (tier === undefined) {
    response.status(400).type('application/problem+json');
    response.json(problem(400, 'tenant_tier_invalid', 'Unknown tier'));
    return;
  }
  response.locals.tier = tier;
  next();
}

function limit(request, response, next) {
  const { quota } = response.locals.tier;
  if (quota !== null) {
    const taken = quota.take();
    response.set('X-RateLimit-Limit', String(quota.limit));
    response.set('X-RateLimit-Remaining', String(taken.remaining));
    response.set('X-RateLimit-Reset', String(taken.reset));
    if (!taken.allowed) {
      response.set('Retry-After', String(taken.retryAfter));
      response.status(429).type('application/problem+json');
      response.json(problem(429, 'rate_limited', 'Rate limit exceeded'));
      return;
    }
  }
  next();
}

app.get('/health', (request, response) => {
  response.json({ status: 'healthy' });
});

app.get('/api/data', identify, limit, async (request, response) => {
  response.json(await response.locals.tier.rows());
});

app.use((error, request, response, next) => {
  response.status(503).type('application/problem+json');
  response.json(problem(503, 'database_unavailable', 'Database unavailable'));
});

app.listen(Number(process.env.PORT), '127.0.0.1');
