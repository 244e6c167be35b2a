// Copyright (c) 2026, Bitcoin Cache Machine contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A double of Ride The Lightning's server: what it refuses, and how, is as the real one was recorded. It reads the
// configuration and the macaroon that the real one reads, writes where that writes, and asks the node for its height.

import * as crypto from 'crypto';
import * as fs from 'fs';
import * as http from 'http';

const recordings = JSON.parse(fs.readFileSync(new URL('./backend/recordings/answers.json', import.meta.url), 'utf-8'));
const folder = process.env.RTL_CONFIG_PATH;
const file = `${folder}/RTL-Config.json`;
const config = JSON.parse(fs.readFileSync(file, 'utf-8'));
const [node] = config.nodes;
const sha256 = (text) => crypto.createHash('sha256').update(text).digest('hex');
const password = sha256(process.env.APP_PASSWORD);
const sessions = new Set();
const tokens = new Set();

if (node.lnImplementation !== 'LND' || node.settings.fiatConversion || config.SSO.rtlSSO !== 0) {
  throw new Error('The double has recordings of one node, lnd, without rates and single sign-on');
}
const macaroon = fs.readFileSync(`${node.authentication.macaroonPath}/admin.macaroon`).toString('hex');
fs.writeFileSync(file, JSON.stringify(config, null, 2));
fs.mkdirSync(node.settings.channelBackupPath, { recursive: true });
fs.mkdirSync(`${config.dbDirectoryPath}/rtldb`, { recursive: true });

const answer = (response, [status, type, body], headers = {}) => {
  response.writeHead(status, { 'Content-Type': type, ...headers });
  response.end(body);
};
const json = (status, value) => [status, 'application/json; charset=utf-8', JSON.stringify(value)];

const ask = (path) => new Promise((resolve, reject) => {
  const headers = { 'Grpc-Metadata-macaroon': macaroon };
  http.get(`${node.settings.lnServerUrl}${path}`, { headers }, (got) => {
    let text = '';
    got.on('data', (part) => { text += part; });
    got.on('end', () => (got.statusCode === 200 ? resolve(text) : reject(new Error(text))));
  }).on('error', reject);
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
    if (request.url === '/rtl/api/authenticate' && request.method === 'POST') {
      authenticate(request, response, text);
    } else if (request.url === '/rtl/api/lnd/getinfo') {
      if (!tokens.has((request.headers.authorization || '').split(' ')[1])) {
        answer(response, recordings.not_logged_in);
      } else {
        await ask('/v1/getinfo').then((found) => answer(response, [200, 'application/json; charset=utf-8', found]),
          (error) => answer(response, json(500, { message: 'Get Info Error', error: error.message })));
      }
    } else {
      const session = crypto.randomUUID();
      sessions.add(session);
      const set = [`_csrf=${session}; Path=/; HttpOnly; SameSite=Strict`, `XSRF-TOKEN=${session}; Path=/`];
      answer(response, recordings.page, { 'Set-Cookie': set });
    }
  });
});
server.listen(Number(config.port), config.host);
