// A person in Chromium: opens a page, signs in, presses what consents, until a page says how it ended.
// node browser.mjs CHROMIUM HOST=ADDRESS URL WORD: prints the text of the first page with WORD in it.
import { spawn } from 'node:child_process';

const [chromium, map, url, word] = process.argv.slice(2);
const [host, address] = map.split('=');
const browser = spawn(chromium, [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
  '--disable-background-networking', '--user-data-dir=profile', '--remote-debugging-port=0',
  `--host-resolver-rules=MAP ${host} ${address}`, '--no-proxy-server', 'about:blank',
], { stdio: ['ignore', 'ignore', 'pipe'] });
process.on('exit', () => browser.kill('SIGKILL'));

const devtools = await new Promise((found, lost) => {
  let said = '';
  browser.stderr.on('data', (data) => {
    said += data;
    const match = said.match(/DevTools listening on (ws:\S+)/);
    if (match) found(match[1]);
  });
  browser.on('exit', () => lost(new Error(`chromium ended: ${said}`)));
});

const socket = new WebSocket(devtools);
await new Promise((open) => socket.addEventListener('open', open));
const waiting = new Map();
let last = 0;
socket.addEventListener('message', ({ data }) => {
  const { id, result, error } = JSON.parse(data);
  const asked = waiting.get(id);
  waiting.delete(id);
  if (asked) error ? asked.no(new Error(error.message)) : asked.yes(result);
});
const ask = (method, params = {}, sessionId) => new Promise((yes, no) => {
  waiting.set(++last, { yes, no });
  socket.send(JSON.stringify({ id: last, method, params, sessionId }));
});

const { targetId } = await ask('Target.createTarget', { url: 'about:blank' });
const { sessionId } = await ask('Target.attachToTarget', { targetId, flatten: true });
const page = async (expression) => {
  const { result } = await ask('Runtime.evaluate', { expression, returnByValue: true }, sessionId);
  return result.value;
};

// What a person does on any of these pages: names, passwords, and the button that agrees.
const act = `(() => {
  if (document.readyState !== 'complete' || document.documentElement.dataset.done) return '';
  const text = document.body?.innerText ?? '';
  const fill = (name, value) => {
    for (const input of document.querySelectorAll('input[name="' + name + '"]')) {
      if (input.type !== 'hidden') input.value = value;
    }
  };
  fill('login', 'alice');
  fill('username', 'alice');
  fill('password', 'any');
  const wanted = /^(continue|sign.?in|allow|authorize|yes|submit|use the new)/i;
  const buttons = [...document.querySelectorAll('button, input[type=submit]')];
  const button = buttons.find((one) => wanted.test((one.innerText || one.value || '').trim()));
  if (button) { document.documentElement.dataset.done = 'yes'; button.click(); }
  return location.href.split('?')[0] + '\\n' + text;
})()`;

await ask('Page.navigate', { url }, sessionId);
const until = Date.now() + 60_000;
let seen = '';
while (Date.now() < until) {
  const text = await page(act).catch(() => '');
  if (text) seen = text;
  if (seen.includes(word)) {
    console.log(seen);
    process.exit(0);
  }
  await new Promise((later) => setTimeout(later, 100));
}
console.log(`never saw ${word}; last: ${seen}`);
process.exit(1);
