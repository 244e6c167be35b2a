// Copyright (c) 2026, Bitcoin Cache Machine contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A double of Lightning Charge's server. It stands on the packages on which the real one stands, calls the node by the
// same client, in the same order, and keeps invoices in the same database; it has no pages, streams and webhooks. It
// replays no recordings: it was written from the source of 0.4.26, and the tests with the real one are the same.

import auth from 'basic-auth';

const lightningd = require('clightning-client');
const { nanoid } = require('nanoid');

const wrap = (answer) => (request, response, next) => answer(request, response).catch(next);
const now = () => Math.floor(Date.now() / 1000);
const shown = (row) => ({ ...row, status: row.pay_index ? 'paid' : row.expires_at > now() ? 'unpaid' : 'expired' });

const main = async () => {
  const db = require('knex')(require('../knexfile'));
  const node = lightningd(process.env.LN_PATH);
  await node.listconfigs();
  if (!await db.schema.hasTable('invoice')) {
    await db.schema.createTable('invoice', (table) => {
      table.string('id').primary();
      table.string('rhash').notNullable().unique();
      ['msatoshi', 'payreq', 'description'].forEach((name) => table.string(name));
      ['created_at', 'expires_at', 'pay_index'].forEach((name) => table.integer(name));
    });
  }
  const listener = new lightningd.LightningClient(process.env.LN_PATH);
  listener.client.on('connect', () => listener.waitanyinvoice(null));

  const app = require('express')();
  app.use(require('body-parser').json());
  app.use((request, response, next) => {
    const known = auth(request);
    const valid = known && known.name === 'api-token' && known.pass === process.env.API_TOKEN;
    return valid ? next() : response.sendStatus(401);
  });
  app.get('/info', wrap(async (request, response) => response.send(await node.getinfo())));
  app.post('/invoice', wrap(async ({ body }, response) => {
    const id = nanoid();
    const made = await node.invoice(body.msatoshi || 'any', id, body.description, body.expiry);
    const invoice = {
      id, rhash: made.payment_hash, msatoshi: body.msatoshi, payreq: made.bolt11, description: body.description,
      created_at: now(), expires_at: now() + body.expiry,
    };
    await db('invoice').insert(invoice);
    response.status(201).send(shown(invoice));
  }));
  app.get('/invoice/:id', wrap(async (request, response) => {
    const row = await db('invoice').where({ id: request.params.id }).first();
    return row ? response.send(shown(row)) : response.sendStatus(404);
  }));
  app.delete('/invoice/:id', wrap(async (request, response) => {
    await node.delinvoice(request.params.id, request.body.status);
    await db('invoice').where({ id: request.params.id }).del();
    response.sendStatus(204);
  }));
  app.use((error, request, response, next) => (
    error.name === 'LightningError' ? response.status(400).send(error.toString()) : next(error)));
  app.listen(Number(process.env.PORT), process.env.HOST);
};

process.on('unhandledRejection', (error) => { throw error; });
main();
