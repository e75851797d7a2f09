// What the peers on Node.js share: the same tiers, limits, pools and query as the server measured.
// TIERS: JSON, tier to {connections, rateLimit (null: none), window in seconds}. PG*: libpq's.
'use strict';

const pg = require('pg');

pg.types.setTypeParser(pg.types.builtins.INT8, Number);

const SELECT = {
  name: 'rows',
  text: 'SELECT id, tier, payload, created_at FROM tenant_data WHERE tier = $1 ORDER BY id LIMIT $2',
};
const ROWS = 10;
const REQUEST_ID = /^[\x21-\x7e]{1,128}$/;

class FixedWindow {
  constructor(limit, seconds) {
    this.limit = limit;
    this.length = seconds * 1000;
    this.window = 0;
    this.taken = 0;
  }

  // Whether one more request may pass, and what its answer's headers say of it.
  take() {
    const now = Date.now();
    const window = Math.floor(now / this.length);
    if (window !== this.window) {
      this.window = window;
      this.taken = 0;
    }
    const allowed = this.taken < this.limit;
    if (allowed) this.taken += 1;
    const reset = Math.ceil(((window + 1) * this.length) / 1000);
    return { allowed, remaining: this.limit - this.taken, reset, retryAfter: Math.max(1, reset - Math.floor(now / 1000)) };
  }
}

class Tier {
  constructor(name, settings) {
    this.name = name;
    this.quota = settings.rateLimit === null ? null : new FixedWindow(settings.rateLimit, settings.window);
    this.pool = new pg.Pool({
      max: settings.connections,
      idleTimeoutMillis: 0,
      application_name: `bulkhead-peer/${name}`,
    });
  }

  async rows() {
    const result = await this.pool.query({ ...SELECT, values: [this.name, ROWS] });
    return result.rows;
  }
}

function problem(status, code, title) {
  return { type: 'about:blank', title, status, code, error: title };
}

const tiers = new Map(
  Object.entries(JSON.parse(process.env.TIERS)).map(([name, settings]) => [name, new Tier(name, settings)]),
);

module.exports = { tiers, problem, REQUEST_ID };
