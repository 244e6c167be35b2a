// Copyright (c) 2026, Bitcoin Cache Machine contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A double of Spark's server. It stands on the packages on which the real one stands, calls the node by the same client,
// and lets in whom the real one lets in. Its page is empty. It replays no recordings: it was written from the source of
// 0.3.1, and the tests with the real one are the same.

const auth = require('basic-auth');
const crypto = require('crypto');
const express = require('express');
const lightningd = require('clightning-client');

if (!process.env.NO_TLS || !process.env.NO_RATES || !process.env.NO_COOKIE_FILE) {
  throw new Error('The double has neither TLS nor rates, and keeps no file');
}
const [user, password] = process.env.LOGIN.split(':');
const key = crypto.createHmac('sha256', `${user}:${password}`).update('access-key').digest('base64').replace(/\W+/g, '');
const node = lightningd(process.env.LN_PATH);
const listener = lightningd(process.env.LN_PATH);
listener.client.on('connect', () => listener.listinvoices()
  .then(({ invoices }) => Math.max(...invoices.map((invoice) => invoice.pay_index || 0)))
  .then((last) => listener.waitanyinvoice(last)));

const own = {
  _listinvoices: async () => ({ invoices: (await node.listinvoices()).invoices.filter((item) => item.status === 'paid') }),
  _listpays: () => node.listpays(),
};

const app = express();
app.use(require('body-parser').json());
app.use((request, response, next) => {
  const known = auth(request);
  request.isSafe = request.get('X-Access') === key;
  if (request.isSafe || (known && known.name === user && known.pass === password)) {
    return next();
  }
  return response.set('WWW-Authenticate', 'Basic realm="Private Area"').sendStatus(401);
});
app.post('*', (request, response, next) => (request.isSafe ? next() : response.sendStatus(403)));
app.post('/rpc', (request, response, next) => {
  const { method, params } = request.body;
  (own[method] ? own[method](...params) : node.call(method, params)).then((found) => response.send(found)).catch(next);
});
app.get('/', (request, response) => response.send('<!DOCTYPE html><title>Spark</title>'));
app.use((error, request, response, next) => response.status(500).send(error.type ? error : error.message));
app.listen(Number(process.env.PORT), process.env.HOST);

process.on('unhandledRejection', (error) => { throw error; });
