// Copyright (c) 2026, Bitcoin Cache Machine contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A double of Ride The Lightning's server: what it refuses, and how, is as tests/record_ridethelightning.py recorded it of
// the real one. It reads the configuration and the credentials that the real one reads, writes where that writes, and
// asks the node that was chosen for its height.

import * as crypto from 'crypto';
import * as fs from 'fs';
import * as http from 'http';

const recordings = JSON.parse(fs.readFileSync(new URL('./backend/recordings/answers.json', import.meta.url), 'utf-8'));
const folder = process.env.RTL_CONFIG_PATH;
const file = `${folder}/RTL-Config.json`;
const config = JSON.parse(fs.readFileSync(file, 'utf-8'));
const sha256 = (text) => crypto.createHash('sha256').update(text).digest('hex');
const password = sha256(process.env.APP_PASSWORD);
const sessions = new Map(); // cookie -> the node that was chosen
const tokens = new Set();

if (config.SSO.rtlSSO !== 0 || config.nodes.some((node) => node.settings.fiatConversion)) {
  throw new Error('The double has recordings of a server without rates and single sign-on');
}
// How a kind of node is called in paths, and how it is asked.
const KINDS = {
  LND: {
    name: 'lnd',
    method: 'GET',
    credential: ({ macaroonPath }) => ({ 'Grpc-Metadata-macaroon': fs.readFileSync(`${macaroonPath}/admin.macaroon`).toString('hex') }),
  },
  CLN: {
    name: 'cln',
    method: 'POST',
    credential: ({ runePath }) => ({ rune: fs.readFileSync(runePath, 'utf-8').match(/LIGHTNING_RUNE="([^"]+)"/)[1] }),
  },
};
const nodes = config.nodes.map((node) => {
  const { name, method, credential } = KINDS[node.lnImplementation];
  return { ...node, name, method, headers: credential(node.authentication) };
});
let chosen = nodes.find((node) => node.index === config.defaultNodeIndex);
fs.writeFileSync(file, JSON.stringify(config, null, 2));
nodes.forEach((node) => fs.mkdirSync(node.settings.channelBackupPath, { recursive: true }));
fs.mkdirSync(`${config.dbDirectoryPath}/rtldb`, { recursive: true });

const answer = (response, [status, type, body], headers = {}) => {
  response.writeHead(status, { 'Content-Type': type, ...headers });
  response.end(body);
};
const json = (status, value) => [status, 'application/json; charset=utf-8', JSON.stringify(value)];
const shown = ({ index, lnNode, lnImplementation, settings }) => ({ index, lnNode, lnImplementation, settings });

const ask = (node) => new Promise((resolve, reject) => {
  const { method, headers } = node;
  const request = http.request(`${node.settings.lnServerUrl}/v1/getinfo`, { method, headers }, (got) => {
    let text = '';
    got.on('data', (part) => { text += part; });
    got.on('end', () => ([200, 201].includes(got.statusCode) ? resolve(text) : reject(new Error(text))));
  });
  request.on('error', reject);
  request.end();
});

const cookies = (request) => Object.fromEntries((request.headers.cookie || '').split('; ').map((item) => item.split('=')));

const authenticate = (request, response, text) => {
  const sent = cookies(request)._csrf;
  if (!sent || !sessions.has(sent) || request.headers['x-xsrf-token'] !== sent) {
    return answer(response, recordings.forged);
  }
  if (JSON.parse(text).authenticationValue !== password) {
    return answer(response, recordings.wrong_password);
  }
  const token = crypto.randomUUID();
  tokens.add(token);
  return answer(response, json(200, { token }));
};

const server = http.createServer((request, response) => {
  let text = '';
  request.on('data', (part) => { text += part; });
  request.on('end', async () => {
    const session = cookies(request)._csrf;
    const [, number] = request.url.match(/^\/rtl\/api\/conf\/updateSelNode\/(\d+)\/-?\d+$/) || [];
    const [, name] = request.url.match(/^\/rtl\/api\/(lnd|cln)\/getinfo$/) || [];
    if (request.url === '/rtl/api/authenticate' && request.method === 'POST') {
      authenticate(request, response, text);
    } else if (request.url === '/rtl/api/conf') {
      answer(response, json(200, { ...config, nodes: nodes.map(shown) }));
    } else if (number) {
      // As the real one, it needs no login for this, and shows it to whoever comes next.
      chosen = nodes.find((node) => node.index === Number(number));
      sessions.set(session, chosen);
      answer(response, json(200, shown(chosen)));
    } else if (name && !tokens.has((request.headers.authorization || '').split(' ')[1])) {
      answer(response, recordings.not_logged_in);
    } else if (name) {
      const node = sessions.get(session);
      await (node.name === name ? ask(node) : Promise.reject(new Error(`${node.lnNode} was chosen`))).then(
        (found) => answer(response, [200, 'application/json; charset=utf-8', found]),
        (error) => answer(response, json(500, { message: 'Get Info Error', error: error.message })),
      );
    } else {
      const fresh = crypto.randomUUID();
      sessions.set(fresh, chosen);
      const set = [`_csrf=${fresh}; Path=/; HttpOnly; SameSite=Strict`, `XSRF-TOKEN=${fresh}; Path=/`];
      answer(response, recordings.page, { 'Set-Cookie': set });
    }
  });
});
server.listen(Number(config.port), config.host);
