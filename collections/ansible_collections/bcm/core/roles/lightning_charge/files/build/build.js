// Copyright (c) 2026, Bitcoin Cache Machine contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Makes of the sources of Lightning Charge what node runs and browsers read, as its bin/dist.sh does:
//   node build.js SOURCES DESTINATION

const fs = require('fs');
const path = require('path');
const babel = require('@babel/core');
const stylus = require('stylus');

const [sources, destination] = process.argv.slice(2);
const plugins = [require('@babel/plugin-transform-modules-commonjs')];
const write = (name, content) => {
  const file = path.join(destination, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, content);
};
const read = (...names) => fs.readFileSync(path.join(sources, ...names), 'utf-8');

for (const folder of ['', 'lib']) {
  for (const name of fs.readdirSync(path.join(sources, 'src', folder))) {
    if (name.endsWith('.js')) {
      const { code } = babel.transformSync(read('src', folder, name), { plugins, configFile: false, babelrc: false });
      write(path.join('dist', folder, name), code);
    }
  }
}
for (const name of ['bootstrap.min.css', 'checkout.js']) {
  write(path.join('dist/www', name), read('www', name));
}
write('dist/www/checkout.css', stylus.render(read('www/checkout.styl')));
fs.cpSync(path.join(sources, 'migrations'), path.join(destination, 'migrations'), { recursive: true });
fs.cpSync(path.join(sources, 'views'), path.join(destination, 'views'), { recursive: true });
fs.copyFileSync(path.join(sources, 'knexfile.js'), path.join(destination, 'knexfile.js'));
