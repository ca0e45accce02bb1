// Drives Chromium for the tests of the console. Each line of standard input is a command as JSON, `{"id", "do", …}`;
// each line of standard output is its result, `{"id", "value"}` or `{"id", "error"}`. Elements are found as a person or
// a screen reader finds them: by role and name.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const [program, modules, ...more] = process.argv.slice(2);
const chromium = process.env.PATH.split(delimiter).map((folder) => join(folder, program)).find(existsSync);
const require = createRequire(`${modules}/`);
const puppeteer = require('puppeteer-core');
const axe = readFileSync(require.resolve('axe-core'), 'utf8');

const browser = await puppeteer.launch({
  executablePath: chromium,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--no-proxy-server', '--disable-background-networking', ...more],
  userDataDir: 'console-profile',
  // Chromium ends when the pipe closes, also if this program is killed.
  pipe: true,
});
const pages = new Map();
const PATIENCE = 20_000;

// What the page asked for, and what it complained of.
function watch(page) {
  page.seen = { requests: [], errors: [], refusals: [] };
  page.on('request', (request) => page.seen.requests.push({ from: request.frame()?.url() ?? '', url: request.url() }));
  page.on('pageerror', (error) => page.seen.errors.push(String(error)));
  page.on('console', (message) => {
    // Pages of others are theirs.
    const isOwn = !/^https:/.test(message.location().url ?? '');
    if (isOwn && message.type() === 'error' && !/the server responded with a status of/.test(message.text())) page.seen.errors.push(message.text());
  });
  page.on('response', async (answer) => {
    if (answer.status() >= 400) page.seen.refusals.push(`${answer.status()} ${answer.url()} ${(await answer.text().catch(() => '')).slice(0, 300)}`);
  });
  page.setDefaultTimeout(PATIENCE);
}

const quoted = (name) => name.replace(/(["\\])/g, '\\$1');
const found = (page, role, name) => page.waitForSelector(`::-p-aria([name="${quoted(name)}"][role="${role}"])`, { visible: true });
async function any(page, roles, name) {
  const selector = roles.map((role) => `::-p-aria([name="${quoted(name)}"][role="${role}"])`).join(', ');
  return page.waitForSelector(selector, { visible: true });
}

// The script of a page of the console has run; pages of others have none of ours.
const ready = (page) => page.waitForFunction(() => !document.querySelector('script[src^="/assets/console-"]') || document.documentElement?.dataset.ready, { polling: 50 });

const commands = {
  // A page in a browser profile of its own: other cookies.
  async profile({ page: name }) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    watch(page);
    pages.set(name, page);
  },
  // Another page of the same profile.
  async beside({ page, as }) {
    const next = await page.browserContext().newPage();
    watch(next);
    pages.set(as, next);
  },
  async front({ page }) { await page.bringToFront(); },
  async size({ page, width, height, scheme }) {
    await page.setViewport({ width, height });
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  },
  async open({ page, url }) {
    const answer = await page.goto(url, { waitUntil: 'load' });
    return { status: answer?.status() ?? 0, length: (await answer?.buffer().catch(() => ''))?.length ?? 0 };
  },
  async click({ page, name, role }) {
    await ready(page);
    const roles = role ? [role] : ['button', 'link', 'checkbox', 'menuitem', 'DisclosureTriangle', 'option'];
    const first = await any(page, roles, name);
    // The next command is for the page that a link opens, not for the one that it leaves.
    const leaves = await first.evaluate((clicked) => {
      const link = clicked.closest('a[href]');
      const page = (url) => url.split('#')[0];
      return Boolean(link) && !link.target && !link.hasAttribute('download') && page(link.href) !== page(location.href);
    });
    // A page renews its lists: another element of the name may take the place of the one that was found.
    const press = async (element) => element.click().catch(async (error) => {
      if (await element.evaluate((found) => found.isConnected)) throw error;
      await press(await any(page, roles, name));
    });
    await Promise.all([leaves && page.waitForNavigation({ waitUntil: 'domcontentloaded' }), press(first)]);
  },
  async fill({ page, name, text }) {
    await ready(page);
    const element = await any(page, ['textbox', 'searchbox', 'combobox', 'spinbutton'], name);
    await element.focus();
    await commands.press({ page, keys: ['Control+a', 'Backspace'] });
    await element.type(text);
  },
  async choose({ page, name, value }) {
    const element = await any(page, ['combobox', 'listbox'], name);
    await element.select(value);
  },
  async press({ page, keys }) {
    for (const key of keys) {
      const [last, ...held] = key.split('+').reverse();
      for (const other of held) await page.keyboard.down(other);
      await page.keyboard.press(last);
      for (const other of held) await page.keyboard.up(other);
    }
  },
  // Tab until the element with this name has the focus.
  async tab_to({ page, name }) {
    for (let step = 0; step < 200; step += 1) {
      await page.keyboard.press('Tab');
      const at = await page.evaluate(() => {
        const { activeElement: element } = document;
        const label = element.labels?.[0]?.textContent ?? '';
        return [element.getAttribute('aria-label'), element.textContent, label].map((text) => (text ?? '').trim());
      });
      if (at.some((text) => text === name || text.startsWith(`${name} (`))) return step + 1;
    }
    throw new Error(`no element named ${name} gets the focus`);
  },
  async sees({ page, text }) {
    // puppeteer never ends a wait whose function throws at first, as one that reads a document without a body would.
    await page.waitForFunction((wanted) => document.body?.innerText.includes(wanted), { polling: 50 }, text);
  },
  async gone({ page, text }) {
    await page.waitForFunction((wanted) => document.body && !document.body.innerText.includes(wanted), { polling: 50 }, text);
  },
  async text({ page }) { return page.evaluate(() => document.body.innerText); },
  async html({ page }) { return page.content(); },
  async url({ page }) { return page.url(); },
  async at({ page, path }) {
    await page.waitForFunction((wanted) => location.pathname + location.search === wanted || location.pathname === wanted, { polling: 50 }, path);
  },
  async evaluate({ page, code }) { return page.evaluate(code); },
  async found({ page, role, name }) { return Boolean(await found(page, role, name)); },
  async seen({ page }) { return page.seen; },
  async cookies({ page }) { return page.browserContext().cookies(); },
  async screenshot({ page, file }) { await page.screenshot({ path: file, fullPage: false }); },
  // Violations of axe-core's rules for WCAG 2.2 A and AA, and its best practices.
  async axe({ page }) {
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    return violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | ')}`);
  },
  async paint({ page }) {
    // On a busy machine the page is loaded before it is painted.
    const painted = () => performance.getEntriesByName('first-contentful-paint')[0]?.startTime;
    const time = await page.waitForFunction(painted, { polling: 50 });
    return time.jsonValue();
  },
  // Without what its script fetches later, such as newer content of a live part.
  async weight({ page }) {
    return page.evaluate(() => performance.getEntries()
      .filter((entry) => entry.initiatorType !== 'fetch')
      .reduce((sum, entry) => sum + (entry.encodedBodySize ?? 0), 0));
  },
  // Chromium's virtual authenticator: a passkey that is verified.
  async authenticator({ page }) {
    const session = await page.createCDPSession();
    await session.send('WebAuthn.enable');
    await session.send('WebAuthn.addVirtualAuthenticator', { options: {
      protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true,
    } });
  },
};

const out = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
out({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: name, ...rest } = JSON.parse(line);
  try {
    const page = name === 'profile' ? rest.page : pages.get(rest.page);
    out({ id, value: (await commands[name]({ ...rest, page })) ?? null });
  } catch (error) {
    const page = pages.get(rest.page);
    const text = await page?.evaluate(() => `${location.href}\n${document.body.innerText}`).catch(() => '');
    out({ id, error: `${name} ${JSON.stringify(rest)}: ${error.message}\n--- refusals\n${page?.seen.refusals.slice(-3).join('\n')}\n--- the page\n${text}` });
  }
}
await browser.close();
