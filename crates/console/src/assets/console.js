// The console's script. Pages work for reading without it; it adds navigation within the page, forms that call the
// API, live updates, keys and the palette. No framework and no inline code (CSP).
(() => {
  'use strict';
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  // Characters that are invisible or turn the direction of text are shown by their numbers: a name could look like another.
  const seen = (text) => String(text).replace(/(?![ \n\r\t])[\p{C}\p{Z}]/gu, (it) => `\\u{${it.codePointAt(0).toString(16)}}`);
  const make = (name, text, css) => {
    const element = document.createElement(name);
    // What stands in `pre` is copied.
    if (text !== undefined) element.textContent = name === 'pre' ? text : seen(text);
    if (css) element.className = css;
    return element;
  };
  const main = () => one('main');
  const api = (path) => '/api/v1' + path;

  // Times: "5 min ago", renewed; the title has the absolute time.
  const units = [[60, 's'], [60, 'min'], [24, 'h'], [7, 'd']];
  function relative(then) {
    let left = Math.abs(Date.now() - then) / 1000;
    const past = then <= Date.now();
    if (left < 10) return 'now';
    for (const [size, unit] of units) {
      if (left < size) {
        const text = `${Math.floor(left)} ${unit}`;
        return past ? `${text} ago` : `in ${text}`;
      }
      left /= size;
    }
    return new Date(then).toISOString().slice(0, 10);
  }
  function times(within = document) {
    for (const time of all('time[data-ago]', within)) {
      const text = relative(Date.parse(time.dateTime));
      if (time.textContent !== text) time.textContent = text;
    }
  }

  // Messages.
  function toast(text, isBad) {
    const note = make('div', text, isBad ? 'toast bad' : 'toast');
    one('.toasts').append(note);
    setTimeout(() => note.remove(), isBad ? 8000 : 4000);
  }

  // Requests that no person's action sends have this field: they are no use of the login, which ends while a page is open.
  const RENEWAL = 'Keyward-Renewal';
  const PARTS = { [RENEWAL]: 'parts' }; // Without what takes long to read.
  const WHOLE = { [RENEWAL]: 'whole' };

  // Requests to the API. A page keeps what was typed when the login has ended: it says so, and the form is sent again with
  // the CSRF value of the next login. A sign-in in another tab replaces the login of this one: the request that is refused
  // for its CSRF value has changed nothing, and is sent once more with the current value.
  // After the end of the login, the script sends nothing by itself, because each request would count as a failed
  // authentication of this address. It goes on after the next sign-in, of which the page that it opens tells other tabs.
  let ended = false;
  const logins = new BroadcastChannel('keyward-login');
  logins.addEventListener('message', () => { ended = false; });
  if (one('meta[name=csrf]')) logins.postMessage('signed in');
  const signIn = () => '/login?to=' + encodeURIComponent(here());
  const parsed = (text) => {
    try { return text ? JSON.parse(text) : {}; } catch { return {}; /* an answer of a proxy in between */ }
  };
  async function renewed() {
    const answer = await fetch(api('/session'));
    if (!answer.ok) return false;
    one('meta[name=csrf]')?.setAttribute('content', (await answer.json()).csrf ?? '');
    ended = false;
    return true;
  }
  async function send(path, { method, body, tag, keeps }, isAgain) {
    if (ended) await renewed();
    const headers = { 'Content-Type': 'application/json', 'Keyward-CSRF': one('meta[name=csrf]')?.content ?? '' };
    if (tag) headers['If-Match'] = tag;
    const answer = await fetch(api(path), { method, headers, body });
    if (answer.ok) return answer;
    const { error } = parsed(await answer.text());
    if (error?.code === 'csrf_required' && !isAgain && await renewed()) return send(path, { method, body, tag, keeps }, true);
    if (answer.status === 401 && location.pathname !== '/login') {
      ended = true;
      if (keeps || hasInput()) throw { message: 'You are signed out.', hint: `Sign in in another tab, then ${keeps ? 'send this form' : 'try'} again.` };
      location.assign(signIn());
    }
    throw error ?? { message: `The gateway answered with ${answer.status}.` };
  }
  async function call(method, path, body, tag, keeps) {
    const sent = body === undefined || method === 'GET' ? undefined : JSON.stringify(body);
    const answer = await send(path, { method, body: sent, tag, keeps });
    return parsed(await answer.text());
  }

  // Navigation: the main part is replaced, the rest stays.
  let visit = 0;
  const here = () => location.pathname + location.search;
  let shown = here();
  let searches = 0;
  // A `TypeError`, as of `fetch`: the gateway does not answer, or a proxy before it says so. Every page of the console has
  // a place for messages; a page of the proxy has not.
  async function page(url, more) {
    const answer = await fetch(url, { headers: { Accept: 'text/html', ...more } });
    const next = new DOMParser().parseFromString(await answer.text(), 'text/html');
    if ([502, 503, 504].includes(answer.status) && !one('.toasts', next)) throw new TypeError('no gateway');
    if (!(answer.headers.get('content-type') ?? '').startsWith('text/html')) throw new Error('not a page');
    return { at: answer.url, status: answer.status, document: next };
  }
  // Each entry of the history has a number, and how far its page was scrolled. After Back, the browser scrolls before the
  // page is there. What was typed stays in memory alone, by the number: it may be a secret.
  const LEFT_MAX = 10;
  const left = new Map();
  let entry = history.state?.entry ?? 0;
  let entries = entry;
  const keepPlace = () => { if (here() === shown) history.replaceState({ top: window.scrollY, entry }, ''); };
  function leaveEntry(part, sent) {
    left.delete(entry);
    left.set(entry, { part, sent });
    if (left.size > LEFT_MAX) left.delete(left.keys().next().value);
  }
  let scrolled;
  window.addEventListener('scroll', () => {
    clearTimeout(scrolled);
    scrolled = setTimeout(keepPlace, 100);
  });
  // `from`: the form or button that changed something. `to`: with 'pop', the state of the entry.
  async function go(url, how = 'push', from, to) {
    const own = ++visit;
    const slow = setTimeout(() => main().setAttribute('aria-busy', 'true'), 300);
    let next;
    try { next = await page(url); } catch (error) {
      if (own === visit && how !== 'stay') unread(url, how, to, error);
      return;
    } finally {
      clearTimeout(slow);
      if (own === visit) main().removeAttribute('aria-busy');
    }
    if (own !== visit) return;
    const fresh = one('main', next.document);
    // The page of what does not exist has no navigation that could be replaced.
    if (!fresh || !one('.rail') || !one('.rail', next.document)) { location.assign(next.at); return; }
    ended = false;
    stop();
    if (how === 'push') keepPlace();
    const [before, focus] = [main(), document.activeElement];
    if (how === 'stay') keep(before, fresh, from);
    if (how === 'push' || how === 'pop') leaveEntry(before, from);
    document.title = next.document.title;
    one('meta[name=csrf]')?.setAttribute('content', one('meta[name=csrf]', next.document)?.content ?? '');
    before.replaceWith(fresh);
    one('.rail').replaceWith(one('.rail', next.document));
    if (how === 'push') {
      entry = entries += 1;
      history.pushState({ entry }, '', next.at);
    }
    if (how === 'pop') {
      entry = to?.entry ?? 0;
      const was = left.get(entry);
      if (was) keep(was.part, fresh, was.sent);
    }
    if (how === 'replace') history.replaceState(history.state, '', next.at);
    shown = here();
    if (how === 'stay') refocus(focus !== before && before.contains(focus) ? focus : from, fresh);
    else { window.scrollTo(0, to?.top ?? 0); fresh.focus({ preventScroll: true }); }
    start();
  }
  // While the gateway does not answer, this page stays, with what was typed. After Back, so does its address.
  function unread(url, how, to, error) {
    const back = how === 'pop' ? entry - (to?.entry ?? 0) : 0;
    if (!(error instanceof TypeError) || how === 'pop' && !back) { location.assign(url); return; }
    toast(said(offline(error)), true);
    if (back) history.go(back);
  }
  const again = (from) => go(location.href, 'stay', from);
  // The same element in another version of the page: by its id, or by the request that it sends. A field of a form may
  // be called `id`.
  function twin(element, within) {
    const id = element.getAttribute('id');
    if (id) return one(`#${CSS.escape(id)}`, within);
    const { tagName, dataset: { api: request } } = element;
    return request && all('[data-api]', within).find((it) => it.dataset.api === request && it.tagName === tagName);
  }
  // Another version of a part has what a person opened, typed, ticked and chose in this one, but for a form that was sent.
  function keep(part, fresh, sent) {
    // A form that was replaced while its request was under way is known by that request.
    const isSent = (form) => form === sent || (sent?.isConnected === false && form.dataset.api === sent.dataset.api);
    for (const was of all('details[id]', part)) {
      const now = twin(was, fresh);
      if (now && !(sent && was.contains(sent) && sent.matches('form'))) now.open = was.open;
    }
    for (const was of all('input[id], textarea[id], select[id]', part)) {
      const now = was.form && !isSent(was.form) && isChanged(was) && twin(was, fresh);
      if (!now) continue;
      if (isTick(was)) now.checked = was.checked;
      else if (!was.options || [...now.options].some((option) => option.value === was.value)) now.value = was.value;
    }
  }
  const isTick = (field) => ['checkbox', 'radio'].includes(field.type);
  const hasInput = () => all('form[data-api] :is(input, textarea, select)').some(isChanged);
  function isChanged(field) {
    if (field.type === 'file') return false;
    if (isTick(field)) return field.checked !== field.defaultChecked;
    const options = [...field.options ?? []];
    const usual = field.options ? (options.find((option) => option.defaultSelected) ?? options[0])?.value : field.defaultValue;
    return field.value !== usual;
  }
  // The focus after a page was replaced by itself: where it was, else at what was pressed, else at the main part.
  function refocus(was, fresh) {
    if (document.activeElement !== document.body) return;
    const same = was && (twin(was, fresh) ?? (was.form && twin(was.form, fresh)));
    const folded = same?.closest('details:not([open])');
    const to = folded ? one('summary', folded) : same?.matches('form') ? one('button:not([type=button])', same) : same;
    to?.focus({ preventScroll: true });
    if (!fresh.contains(document.activeElement)) fresh.focus({ preventScroll: true });
  }

  // This page as it is now, without what takes long to read.
  const reload = () => page(location.href, PARTS);
  // The page is not shown as it is any more, and sends nothing by itself. What was typed stays.
  function leave(why, next) {
    ended = true;
    if (hasInput()) toast(why, true);
    else next();
  }
  // Live parts: elements with `data-live` are replaced when the gateway renders them differently. Not while a request is
  // under way after which the page is left: a sign-out leads to the sign-in alone, and not back to this page.
  let limited = 0;
  let leaving = false;
  async function renew() {
    if (ended || leaving || Date.now() < limited || document.hidden || one('dialog[open]') || !one('.rail') || !one('[data-live]')) return;
    const own = visit;
    let next;
    try { next = await reload(); } catch { return; }
    // Meanwhile a page or a dialog may have opened.
    if (ended || leaving || own !== visit || one('dialog[open]')) return;
    if (next.status === 429) { limited = Date.now() + 30_000; return; }
    if (new URL(next.at).pathname === '/login') {
      leave('You are signed out. Sign in in another tab, then send the form.', () => location.assign(signIn()));
      return;
    }
    if (next.status === 404 && one('main.alone', next.document)) { leave('What this page is about was removed or renamed.', () => location.reload()); return; }
    if (!one('.rail', next.document)) return;
    for (const part of all('[data-live]')) {
      const fresh = next.document.getElementById(part.id);
      if (!fresh || part.contains(document.activeElement) && part.matches('form, form *')) continue;
      // A refusal stays until the form is sent again. One in a dialog that was closed is not seen.
      const isSeen = (note) => note.getClientRects().length > 0;
      // A part whose request is under way waits for its answer.
      if (one('details.menu[open], [aria-busy="true"]', part) || all('form[data-api] :is(.wrong, .wrong-box)', part).some(isSeen)) continue;
      keep(part, fresh);
      times(fresh);
      if (fresh.outerHTML !== part.outerHTML) replace(part, fresh);
    }
    choose();
    await reread(next.document, own);
  }
  // Parts that take long to read: a renewal has only their `data-stamp`. When it has changed, the whole page is read,
  // at most every 10 seconds.
  let read = 0;
  async function reread(renewal, own) {
    const isOld = (part) => (renewal.getElementById(part.id)?.dataset.stamp ?? part.dataset.stamp) !== part.dataset.stamp;
    if (Date.now() - read < 10_000 || !all('[data-stamp]').some(isOld)) return;
    read = Date.now();
    let next;
    try { next = await page(location.href, WHOLE); } catch { return; }
    if (own !== visit || one('dialog[open]')) return;
    for (const part of all('[data-stamp]').filter(isOld)) {
      const fresh = next.document.getElementById(part.id);
      if (fresh) replace(part, fresh);
    }
  }
  // In place of a part, with the focus where it was.
  function replace(part, fresh) {
    const focus = part.contains(document.activeElement) ? pathTo(part, document.activeElement) : null;
    times(fresh);
    part.replaceWith(fresh);
    focus?.reduce((at, index) => at?.children[index], fresh)?.focus();
  }
  function pathTo(root, element) {
    const path = [];
    for (let at = element; at !== root; at = at.parentElement) path.unshift([...at.parentElement.children].indexOf(at));
    return path;
  }

  // Forms with `data-api="METHOD /path"` become JSON. `data-json` of a field: number, list, lines, pairs, flag, raw; a field that is
  // empty is left out, or null with `data-null`; `merge`: its value is an object, whose members are added. A name with dots is a path into the object.
  function value(field) {
    switch (field.dataset.json) {
      case 'flag': return field.checked;
      case 'number': return field.value === '' ? undefined : Number(field.value);
      case 'list': {
        const list = field.value.split(/[\s,]+/).filter(Boolean);
        return list.length === 0 && 'null' in field.dataset ? undefined : list;
      }
      case 'lines': return field.value.split('\n').map((line) => line.trim()).filter(Boolean);
      case 'pairs': return { ...pairs(field.defaultValue, () => null), ...pairs(field.value, (text) => text) };
      case 'raw': return field.value.trim() === '' ? undefined : JSON.parse(field.value);
      default: {
        // Blanks around a pasted key are no part of it, and invisible where it is shown as dots.
        const text = field.matches('input:is([name^="fields."], [name^="secrets."])') ? field.value.trim() : field.value;
        return text === '' ? undefined : text;
      }
    }
  }
  // An object of the lines `name=value`. A merge patch removes members that are null.
  const pairs = (text, given) => Object.fromEntries(text.split('\n').filter((line) => line.trim()).map((line) => {
    const [name, ...rest] = line.split('=');
    return [name.trim(), given(rest.join('=').trim())];
  }));
  function body(form) {
    const json = form.dataset.body ? JSON.parse(form.dataset.body) : {};
    const put = (name, given) => {
      const keys = name.split('.');
      const last = keys.pop();
      const at = keys.reduce((object, key) => (object[key] ??= {}), json);
      at[last] = given;
    };
    for (const group of new Set(all('[data-each]', form).map((box) => box.name))) {
      const ticked = all(`[data-each][name="${group}"]:checked`, form).map((box) => box.value);
      const isNull = ticked.length === 0 && one(`[data-each][data-null][name="${group}"]`, form);
      put(group, isNull ? null : ticked);
    }
    for (const field of form.elements) {
      if (!field.name || field.matches(':disabled') || 'each' in field.dataset || 'path' in field.dataset) continue;
      if (field.type === 'radio' && !field.checked) continue;
      if (field.type === 'checkbox' && field.dataset.json !== 'flag' && !field.checked) continue;
      if (field.dataset.json === 'merge') { Object.assign(json, JSON.parse(field.value || '{}')); continue; }
      const given = value(field);
      if (given !== undefined) put(field.name, given);
      else if ('null' in field.dataset) put(field.name, null);
    }
    return json;
  }
  const filled = (text, from) =>
    text.replace(/\{([\w.]+)\}/g, (_, name) => encodeURIComponent(name.split('.').reduce((at, key) => at?.[key], from) ?? ''));
  // Remedies that are commands are for the terminal. After a change by another person, the page shows that change.
  const remedy = ({ code, hint }) => {
    if (code === 'stale') return 'The page shows it now. Check it, then repeat your change.';
    return hint && !/keyward |--/.test(hint) ? hint : undefined;
  };
  // The message of an error of a field is a predicate; its subject is the field, unless it stands beside it.
  const named = ({ field, message }) => (field ? `${field} ${message}` : message);
  const phrase = (message, error) => [message, remedy(error)].filter(Boolean).join(' — ');
  const said = (error) => phrase(named(error), error);
  // The field of a form that an error is about. One about `fields` or `variables` says in its message which of them.
  function culprit(form, { field, message }) {
    const plain = field?.replace(/\[\d+\].*$/, '');
    if (!plain) return undefined;
    const named = all('[name]', form);
    const own = named.find((it) => it.name === plain || plain.endsWith('.' + it.name));
    if (own) return own;
    const within = named.filter((it) => it.name.startsWith(plain + '.'));
    const quoted = /`([^`]+)`/.exec(message)?.[1];
    const one = within.length === 1 ? within[0] : within.find((it) => it.name === `${plain}.${quoted}`);
    // A secret of an app is named without its place in the form.
    return one ?? named.find((it) => it.name.endsWith('.' + plain));
  }
  function wrong(form, error) {
    clear(form);
    const field = culprit(form, error);
    if (field) {
      blame(field, phrase(error.message, error));
      field.focus();
      return;
    }
    const box = make('div', undefined, 'wrong-box');
    box.setAttribute('role', 'alert');
    box.append(make('p', named(error) ?? 'It failed.'));
    if (remedy(error)) box.append(make('p', remedy(error)));
    form.prepend(box);
    box.scrollIntoView({ block: 'nearest' });
  }
  function blame(field, text) {
    const note = make('p', text, 'wrong');
    note.id = `wrong-${field.name}`;
    field.setAttribute('aria-invalid', 'true');
    field.dataset.help = field.getAttribute('aria-describedby') ?? '';
    field.setAttribute('aria-describedby', `${field.dataset.help} ${note.id}`.trim());
    (field.closest('.field') ?? field.parentElement).append(note);
    for (let at = field.closest('details'); at; at = at.parentElement.closest('details')) at.open = true;
  }
  // A dialog keeps what was typed, without the refusal of an earlier try.
  function openDialog(dialog) {
    if (!dialog || dialog.open) return;
    all('form', dialog).forEach(clear);
    dialog.showModal();
  }
  function clear(form) {
    for (const note of all('.wrong, .wrong-box', form)) note.remove();
    for (const field of all('[aria-invalid]', form)) {
      field.removeAttribute('aria-invalid');
      if (field.dataset.help) field.setAttribute('aria-describedby', field.dataset.help);
      else field.removeAttribute('aria-describedby');
    }
  }
  const offline = (error) => error instanceof TypeError ? { message: 'The gateway does not answer.', hint: 'Check that it runs.' } : error;
  async function submit(form) {
    const [method, path] = form.dataset.api.split(' ');
    if (form.dataset.confirm && !(await sure(form.dataset, one('button:not([type=button])', form)?.textContent))) return;
    let sent;
    try { sent = body(form); } catch (error) { wrong(form, { message: `This is not JSON: ${error.message}` }); return; }
    const given = Object.fromEntries(all('[data-path]', form).map((field) => [field.name, field.value]));
    const buttons = all('button', form);
    const free = busy(buttons);
    try {
      let answer = await call(method, filled(path, given), sent, form.dataset.tag, true);
      if (form.dataset.register) answer = await register(form.dataset.register, answer, given);
      clear(form);
      await then(form.dataset, answer, form);
    } catch (error) {
      if (error.code === 'stale') await outdated(form, error);
      else if (error.code !== 'totp_required' || !second(form)) wrong(form, offline(error));
    } finally {
      free();
    }
  }
  // Another person has changed what a form changes. The page then has the present values, and what was typed here.
  async function outdated(form, error) {
    const same = () => all('form[data-api]', main()).filter((it) => it.dataset.api === form.dataset.api);
    const place = same().indexOf(form);
    await again();
    wrong(form.isConnected ? form : same()[place] ?? main(), error);
  }
  // Passkeys: what the API asks, the authenticator answers. JSON by the browser (WebAuthn 3 §5.1.8).
  const passkeys = () => window.PublicKeyCredential?.parseCreationOptionsFromJSON !== undefined;
  const refused = (error) => error.name === 'InvalidStateError' ? { message: 'This device has a passkey here already.' }
    : error instanceof DOMException ? { message: 'No passkey was used.', hint: 'Try again, and confirm on your device.' } : error;
  async function register(target, options, given) {
    const [method, path] = target.split(' ');
    if (!passkeys()) throw { message: 'This browser has no passkeys here.', hint: 'Use a current one, over https or at localhost.' };
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
    const made = await navigator.credentials.create({ publicKey }).catch((error) => { throw refused(error); });
    return call(method, path, { ...given, credential: made.toJSON() });
  }
  async function sign(button) {
    const free = busy([button]);
    try {
      const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(await call('POST', '/session/challenge', {}));
      const used = await navigator.credentials.get({ publicKey });
      await call('POST', '/session', { passkey: used.toJSON() });
      location.assign(button.dataset.to || '/');
    } catch (error) {
      toast(said(offline(refused(error))), true);
    } finally {
      free();
    }
  }
  // The second step of a sign-in: the field of the code appears.
  function second(form) {
    const part = one('[data-second][hidden]', form);
    if (!part) return false;
    clear(form);
    part.hidden = part.disabled = false;
    one('input', part).focus();
    return true;
  }
  // A button that sends a request without a form.
  async function press(button) {
    const [method, path] = button.dataset.api.split(' ');
    if (button.dataset.confirm && !(await sure(button.dataset, button.textContent))) return;
    const free = busy([button]);
    const leaves = 'leave' in button.dataset;
    leaving ||= leaves;
    try {
      const sent = button.dataset.body ? JSON.parse(button.dataset.body) : method === 'DELETE' ? undefined : {};
      await then(button.dataset, await call(method, path, sent, button.dataset.tag), button);
    } catch (error) {
      if (leaves) leaving = false;
      if (error.code === 'stale') await again(button);
      toast(said(offline(error)), true);
    } finally {
      free();
    }
  }
  // A file of the API, which a link cannot ask for: it is a POST.
  async function save(button) {
    const free = busy([button]);
    try {
      const answer = await send(button.dataset.download, { method: 'POST', body: '{}' });
      const link = make('a');
      link.href = URL.createObjectURL(await answer.blob());
      link.download = /filename="([^"]+)"/.exec(answer.headers.get('content-disposition') ?? '')?.[1] ?? 'download';
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    } catch (error) {
      toast(said(offline(error)), true);
    } finally {
      free();
    }
  }
  // Disables buttons until the function that it returns is called. Browsers take the focus from a disabled button.
  function busy(buttons) {
    const focus = document.activeElement;
    const set = (is) => { for (const button of buttons) { button.disabled = is; button.setAttribute('aria-busy', String(is)); } };
    set(true);
    return () => {
      set(false);
      if (document.activeElement === document.body) focus?.focus({ preventScroll: true });
    };
  }
  async function then({ done, to, show, fill, leave, failed }, answer, from) {
    if (failed && answer.test?.ok === false) to = failed;
    if (answer.authorize_url) { location.assign(answer.authorize_url); return; }
    if (leave !== undefined) { location.assign(to || '/'); return; }
    const secret = show?.split('.').reduce((at, key) => at?.[key], answer);
    const next = () => (to ? go(filled(to, answer), 'push', from) : again(from));
    if (secret) { reveal(done, secret, next); return; }
    if (fill) {
      // The page that follows keeps what other forms have; this one was sent. `data-keeps`: it may be sent again.
      if (from.matches('form:not([data-keeps])')) HTMLFormElement.prototype.reset.call(from);
      filledIn(document.getElementById(fill), answer).showModal();
      return;
    }
    const text = [answer.test?.message, answer.message].find((it) => typeof it === 'string') ?? done;
    // What a receiver answered to a test event.
    const said = typeof answer.what === 'string' ? `${text} ${answer.what}` : text;
    await next();
    if (said) toast(said, (answer.test ?? answer).ok === false || answer.taken === false);
  }
  // A secret that the API shows once: with a button to copy it. It goes when the dialog closes, and `next` follows.
  // `done`: the title, and lines of text below it.
  function reveal(done, secret, next) {
    const box = make('dialog');
    const [title, ...rest] = (done || 'Shown once').split('\n');
    const heading = make('h2', title);
    heading.id = 'once';
    box.setAttribute('aria-labelledby', 'once');
    box.append(heading, ...rest.map((line) => make('p', line)), make('p', 'Copy it now. It is not shown again.', 'muted'));
    const copy = make('div', undefined, 'copy');
    copy.append(make('pre', String(secret), 'code'), copier());
    const actions = make('div', undefined, 'actions');
    const close = make('button', 'Done', 'first');
    close.addEventListener('click', () => box.close());
    actions.append(close);
    box.append(copy, actions);
    box.addEventListener('close', () => { box.remove(); next(); });
    document.body.append(box);
    box.showModal();
  }
  // A dialog with the members of an answer in the places that name them.
  function filledIn(box, answer) {
    for (const part of all('[data-cell]', box)) {
      const text = answer[part.dataset.cell];
      if (part.tagName === 'IMG') part.src = text; else part.textContent = text;
    }
    return box;
  }
  function copier() {
    const button = make('button', 'Copy');
    button.type = 'button';
    button.dataset.copy = '';
    return button;
  }
  function sure({ confirm: question, type: typed }, verb = 'Continue') {
    return new Promise((resolve) => {
      const box = make('dialog');
      box.setAttribute('role', 'alertdialog');
      const [title, ...rest] = question.split('\n');
      const heading = make('h2', title);
      heading.id = 'sure';
      box.setAttribute('aria-labelledby', 'sure');
      box.append(heading, ...rest.map((line) => make('p', line)));
      const actions = make('form', undefined, 'actions');
      actions.method = 'dialog';
      const no = make('button', 'Cancel');
      const yes = make('button', verb, 'danger');
      no.value = ''; yes.value = 'yes';
      if (typed) {
        const field = make('div', undefined, 'field');
        const label = make('label', `Type ${typed} to confirm`);
        const input = make('input');
        input.id = label.htmlFor = 'sure-name';
        input.autocomplete = 'off';
        yes.disabled = true;
        input.addEventListener('input', () => { yes.disabled = input.value !== typed; });
        input.addEventListener('keydown', (event) => { if (event.key === 'Enter' && !yes.disabled) box.close('yes'); });
        field.append(label, input);
        box.append(field);
      }
      actions.append(no, yes);
      box.append(actions);
      box.addEventListener('close', () => { box.remove(); resolve(box.returnValue === 'yes'); });
      document.body.append(box);
      box.showModal();
    });
  }

  // Live traffic: records of the audit log as they are written. A browser connects again when a stream ends, but gives
  // up after a refusal, such as that of a proxy while the gateway restarts: then the page opens another stream.
  let events;
  function traffic() {
    const list = one('[data-traffic]');
    if (!list) return;
    const template = one('#exchange');
    const sign = one('#live');
    const asked = new URLSearchParams(list.dataset.traffic);
    let last = Number(asked.get('after'));
    let waiting = [];
    let held = list.dataset.held === '1';
    const put = () => {
      if (held || list.matches(':hover') || window.scrollY > 200) { count(); return; }
      for (const record of waiting.splice(0)) list.prepend(row(record));
      while (list.children.length > 200) list.lastElementChild.remove();
      one('#quiet')?.remove();
      count();
    };
    const count = () => {
      sign.dataset.waiting = waiting.length || '';
      if (sign.classList.contains('on')) sign.lastElementChild.textContent = waiting.length ? `${waiting.length} new` : held ? 'Paused' : 'Live';
    };
    const off = (state) => { sign.classList.remove('on'); sign.lastElementChild.replaceChildren(state); };
    const sender = ({ agent, user, by, rule }) => (agent ?? (by && user) ?? by ?? 'unknown') + (rule?.startsWith('test:') ? ' (test)' : '');
    const row = (record) => {
      const element = template.content.firstElementChild.cloneNode(true);
      const target = (record.target ?? '').replace(/^https:\/\//, '').replace(/:443$/, '');
      const cells = {
        method: record.method ?? '', agent: sender(record), path: target + (record.path ?? ''),
        status: record.code ?? record.status ?? record.outcome, ms: `${record.duration_ms} ms`, connection: record.connection ?? '',
      };
      for (const [name, text] of Object.entries(cells)) one(`[data-cell=${name}]`, element).textContent = seen(text);
      const time = one('time', element);
      time.dateTime = time.title = record.time;
      one('a', element).href = `/traffic/${record.exchange}`;
      const status = one('[data-cell=status]', element);
      const bad = record.outcome === 'refused' || record.status >= 500;
      status.className = bad ? 'status-bad' : record.status >= 400 ? 'status-warn' : 'status-ok';
      element.classList.toggle('refused', record.outcome === 'refused');
      times(element);
      return element;
    };
    const open = () => {
      asked.set('after', last);
      const source = events = new EventSource(api('/audit?') + asked);
      source.onopen = () => { sign.classList.add('on'); count(); };
      source.onmessage = (event) => {
        const record = JSON.parse(event.data);
        if (record.seq <= last) return;
        last = record.seq;
        waiting.push(record);
        waiting = waiting.slice(-500);
        put();
      };
      source.onerror = () => {
        off('Connecting…');
        if (source.readyState === EventSource.CLOSED) retry(source);
      };
    };
    const retry = (source, after = 3_000) => setTimeout(async () => {
      if (events !== source) return;
      const answer = await fetch(api('/session'), { headers: WHOLE }).catch(() => undefined);
      if (events !== source) return;
      if (answer?.status === 429) { retry(source, 30_000); return; }
      if (answer?.status !== 401) { open(); return; }
      ended = true;
      const link = make('a', 'Signed out');
      link.href = signIn();
      off(link);
      logins.addEventListener('message', () => retry(source, 0), { once: true });
    }, after);
    open();
    list.addEventListener('mouseleave', put);
    one('#hold')?.addEventListener('click', (event) => {
      held = !held;
      event.currentTarget.textContent = held ? 'Resume' : 'Pause';
      put();
    });
  }

  // The order of rules, by dragging or Alt and arrow keys.
  function order() {
    const list = one('ol[data-order]');
    if (!list) return;
    // The whole order is sent where the page has all stored rules, so that a change by another person is noticed; else
    // the place of one rule.
    const send = async (item) => {
      const name = item.dataset.rule;
      const next = item.nextElementSibling?.dataset.rule;
      const place = next ? { before: next } : { after: item.previousElementSibling?.dataset.rule };
      const rules = all('li[data-rule]', list).map((it) => it.dataset.rule);
      try {
        if (list.dataset.tag) await call('PUT', '/rules/order', { rules }, list.dataset.tag);
        else await call('PATCH', `/rules/${encodeURIComponent(name)}`, place);
        toast('The order is in force.');
      } catch (error) { toast(said(offline(error)), true); }
      await again();
      all('li[data-rule]').find((it) => it.dataset.rule === name)?.focus();
    };
    let waits;
    let dragged;
    list.addEventListener('dragstart', (event) => { dragged = event.target.closest('li[data-rule]'); dragged?.classList.add('drag'); });
    list.addEventListener('dragover', (event) => {
      const over = event.target.closest('li[data-rule]');
      if (!dragged || !over || over === dragged) return;
      event.preventDefault();
      const box = over.getBoundingClientRect();
      over[event.clientY > box.top + box.height / 2 ? 'after' : 'before'](dragged);
    });
    list.addEventListener('dragend', () => { dragged?.classList.remove('drag'); if (dragged) send(dragged); dragged = undefined; });
    list.addEventListener('keydown', (event) => {
      const item = event.target.closest('li[data-rule]');
      if (!event.altKey || !item || !['ArrowUp', 'ArrowDown'].includes(event.key)) return;
      event.preventDefault();
      const other = event.key === 'ArrowUp' ? item.previousElementSibling : item.nextElementSibling;
      if (!other?.dataset.rule) return;
      other[event.key === 'ArrowUp' ? 'before' : 'after'](item);
      item.focus();
      clearTimeout(waits);
      waits = setTimeout(() => send(item), 400);
    });
  }

  // The palette: every object and page.
  async function palette() {
    if (one('dialog[open]')) return;
    const box = make('dialog', undefined, 'palette');
    box.setAttribute('aria-label', 'Go to');
    const input = make('input');
    input.placeholder = 'Go to a connection, an agent, a page…';
    input.setAttribute('aria-label', 'Go to');
    input.setAttribute('role', 'combobox');
    input.setAttribute('aria-expanded', 'true');
    input.setAttribute('aria-controls', 'found');
    const list = make('ul');
    list.id = 'found';
    list.setAttribute('role', 'listbox');
    list.setAttribute('aria-label', 'Results');
    box.append(input, list);
    box.addEventListener('close', () => box.remove());
    document.body.append(box);
    box.showModal();
    let asked = 0;
    const find = async () => {
      const own = ++asked;
      const answer = await fetch('/find?q=' + encodeURIComponent(input.value));
      const text = await answer.text();
      if (own !== asked || !answer.ok) return;
      list.replaceChildren(...one('ul', new DOMParser().parseFromString(text, 'text/html'))?.children ?? []);
      select(0);
    };
    const links = () => all('a', list);
    const select = (index) => links().forEach((link, at) => {
      link.setAttribute('aria-selected', String(at === index));
      if (at === index) { link.scrollIntoView({ block: 'nearest' }); input.setAttribute('aria-activedescendant', link.id); }
    });
    input.addEventListener('input', find);
    input.addEventListener('keydown', (event) => {
      const now = links().findIndex((link) => link.getAttribute('aria-selected') === 'true');
      if (event.key === 'ArrowDown') { event.preventDefault(); select(Math.min(now + 1, links().length - 1)); }
      if (event.key === 'ArrowUp') { event.preventDefault(); select(Math.max(now - 1, 0)); }
      if (event.key === 'Enter' && links()[now]) { event.preventDefault(); const { href } = links()[now]; box.close(); go(href); }
    });
    list.addEventListener('click', () => box.close());
    find();
  }

  const places = { o: '/', c: '/connections', a: '/agents', t: '/traffic', r: '/rules', p: '/plugins', l: '/audit', s: '/settings', u: '/people' };
  let prefix = 0;
  function keys(event) {
    const typing = event.target.closest('input, textarea, select, [contenteditable]');
    if ((event.metaKey || event.ctrlKey) && event.key === 'k') { event.preventDefault(); palette(); return; }
    if (event.key === 'Escape') all('details.menu[open]').forEach((menu) => { menu.open = false; one('summary', menu).focus(); });
    if (typing || event.metaKey || event.ctrlKey || event.altKey || one('dialog[open]')) return;
    const rows = all('tr.go, li.go', main());
    const at = rows.findIndex((row) => row.classList.contains('at'));
    const mark = (index) => {
      rows.forEach((row, place) => row.classList.toggle('at', place === index));
      one('a', rows[index])?.focus();
    };
    if (Date.now() - prefix < 1000 && places[event.key]) { prefix = 0; event.preventDefault(); go(places[event.key]); return; }
    switch (event.key) {
      case 'g': prefix = Date.now(); break;
      case '/': one('[type=search]', main())?.focus(); event.preventDefault(); break;
      case '?': one('#keys')?.showModal(); break;
      case 'j': if (rows.length) mark(Math.min(at + 1, rows.length - 1)); break;
      case 'k': if (rows.length) mark(Math.max(at - 1, 0)); break;
      case 'p': case 't': if (at >= 0) one(`[data-key=${event.key}]`, rows[at])?.click(); break;
      default:
    }
  }

  // Events of the whole document; pages come and go below.
  document.addEventListener('click', (event) => {
    const copy = event.target.closest('[data-copy]');
    if (copy) {
      const text = one('pre, code', copy.parentElement)?.textContent ?? copy.dataset.copy;
      navigator.clipboard.writeText(text).then(() => { copy.textContent = 'Copied'; setTimeout(() => { copy.textContent = 'Copy'; }, 1500); });
      return;
    }
    const key = event.target.closest('button[data-passkey]');
    if (key) { sign(key); return; }
    const button = event.target.closest('button[data-api]');
    if (button) { press(button); return; }
    const file = event.target.closest('button[data-download]');
    if (file) { save(file); return; }
    const opener = event.target.closest('[data-open]');
    if (opener) { openDialog(document.getElementById(opener.dataset.open)); return; }
    if (event.target.closest('[data-close]')) { event.target.closest('dialog')?.close(); return; }
    if (!event.target.closest('details.menu')) all('details.menu[open]').forEach((menu) => { menu.open = false; });
    const row = event.target.closest('tr.go');
    const link = event.target.closest('a[href]') ?? (row && !event.target.closest('button, summary, details, input, label') ? one('a', row) : null);
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const url = new URL(link.href);
    // A page without navigation is left by the browser: its link may lead to an identity provider.
    if (!one('.rail') || url.origin !== location.origin || link.target || link.hasAttribute('download') || link.dataset.plain !== undefined) return;
    if (url.pathname === location.pathname && url.hash) return;
    event.preventDefault();
    go(url.href);
  });
  document.addEventListener('change', (event) => {
    const box = event.target;
    if (box.closest('form[data-find]') && box.matches('select')) { find(box.closest('form[data-find]')); return; }
    if (box.type === 'radio') { choose(box.form); return; }
    if (box.type === 'file' && box.dataset.into) { take(box); return; }
    if (box.dataset?.on) bind(box);
  });
  // A checkbox that binds: it sends a request when it is ticked or cleared, and goes back if that fails. Clearing it asks
  // first where that deletes limits.
  async function bind(box) {
    const list = box.closest('[data-found]');
    if (!box.checked && box.dataset.confirm && !(await sure(box.dataset, 'Unbind'))) { box.checked = true; return; }
    const [method, path] = (box.checked ? box.dataset.on : box.dataset.off).split(' ');
    try {
      await call(method, path, box.checked ? JSON.parse(box.dataset.body) : undefined);
      toast(box.checked ? 'Bound.' : 'Unbound.');
    } catch (error) {
      box.checked = !box.checked;
      toast(said(offline(error)), true);
      return;
    }
    renew();
    relist(list.id);
  }
  // The rows of such a list as they are stored now. Each keeps its place, so that the next click meets the row that it is
  // meant for.
  let listed = 0;
  async function relist(id) {
    const [own, from] = [++listed, visit];
    const next = await reload().catch(() => null);
    const [list, fresh] = [document.getElementById(id), next?.document.getElementById(id)];
    if (!list || !fresh || own !== listed || from !== visit) return;
    for (const box of all('input[data-on]', list)) {
      const row = box.closest('li');
      const now = twin(box, fresh)?.closest('li');
      if (now) replace(row, now);
      // A page lists a part of many, and bound ones always.
      else if (!box.checked) all('.chip, a', row).forEach((it) => it.remove());
    }
  }
  // Parts of a form with `data-when="name=value"` are there while that radio button is chosen.
  function choose(form) {
    for (const part of all('[data-when]', form ?? document)) {
      const [name, ...values] = part.dataset.when.split(/[=|]/);
      const chosen = one(`[name="${name}"]:checked`, part.closest('form'))?.value;
      part.hidden = part.disabled = !values.includes(chosen);
    }
  }
  // A file that is chosen fills the field that it is for.
  async function take(input) {
    const field = document.getElementById(input.dataset.into);
    if (!field || !input.files[0]) return;
    const text = await input.files[0].text();
    if (field.maxLength > 0 && text.length > field.maxLength) { toast(`The file has more than ${field.maxLength} characters.`, true); return; }
    field.value = text;
    field.dispatchEvent(new Event('input', { bubbles: true }));
  }
  // A browser names only the first of the fields that it does not accept, and only for some seconds.
  document.addEventListener('invalid', (event) => {
    const field = event.target;
    if (!field.form?.dataset.api) return;
    event.preventDefault();
    const isFirst = all(':invalid:not(fieldset)', field.form)[0] === field;
    if (isFirst) clear(field.form);
    blame(field, field.validationMessage);
    if (isFirst) field.focus();
  }, true);
  document.addEventListener('submit', (event) => {
    const form = event.target;
    if (form.dataset.api) { event.preventDefault(); submit(form); return; }
    // A field may be called `method`.
    if (form.getAttribute('method') === 'get' && one('.rail')) {
      event.preventDefault();
      const url = new URL(form.action);
      url.search = new URLSearchParams([...new FormData(form)].filter(([, text]) => text !== ''));
      go(url.href, form.dataset.find === undefined ? 'push' : 'replace');
    }
    // A second click would send it again, and the answer to the first one be lost: a link that signs in works once.
    if (form.getAttribute('method') === 'post') {
      if (form.dataset.sent !== undefined) event.preventDefault();
      form.dataset.sent = '';
    }
  });
  // The same page, when the browser goes back to it.
  window.addEventListener('pageshow', () => all('form[data-sent]').forEach((form) => { delete form.dataset.sent; }));
  // Searches and filters apply while they are given.
  let typed;
  document.addEventListener('input', (event) => {
    const form = event.target.closest('form[data-find]');
    if (form) {
      clearTimeout(typed);
      typed = setTimeout(() => find(form), 150);
      return;
    }
    shape(event.target);
  });
  async function find(form) {
    const url = new URL(form.action);
    url.search = new URLSearchParams([...new FormData(form)].filter(([, text]) => text !== ''));
    const own = ++searches;
    const from = visit;
    const next = await page(url.href).catch(() => null);
    // A page that was opened meanwhile stays.
    if (!next || own !== searches || from !== visit) return;
    history.replaceState(history.state, '', url.href);
    shown = here();
    // `data-found`: a part that a search changes, and a renewal does not.
    for (const part of all('[data-live], [data-found]')) {
      const fresh = next.document.getElementById(part.id);
      if (!fresh || part.contains(form)) continue;
      keep(part, fresh);
      part.replaceWith(fresh);
    }
    times();
  }
  // A pasted key is compared with the shape that its service issues.
  function shape(field) {
    const note = field.dataset?.prefixes && one('.shape', field.closest('.field'));
    if (!note) return;
    const text = field.value.trim();
    const fits = field.dataset.prefixes.split(' ').some((prefix) => text.startsWith(prefix));
    note.textContent = text === '' ? '' : fits ? `Ends in …${text.slice(-4)}` : `Keys of this service begin with ${field.dataset.prefixes.split(' ').join(' or ')}`;
    note.className = `shape help ${text && !fits ? 'status-warn' : ''}`;
  }
  document.addEventListener('keydown', keys);
  // A link to a place within the page changes only what follows `#`; the browser goes there by itself.
  window.addEventListener('popstate', (event) => {
    if (here() === shown) visit += 1;
    else go(location.href, 'pop', undefined, event.state);
  });

  let timer;
  function start() {
    times();
    traffic();
    order();
    choose();
    all('button[data-passkey]').forEach((button) => { button.hidden = !passkeys(); });
    all('form[data-now]').forEach((form) => submit(form));
  }
  function stop() {
    events?.close();
    events = undefined;
  }
  document.addEventListener('visibilitychange', () => { if (!document.hidden) renew(); });
  setInterval(() => times(), 10_000);
  timer = setInterval(renew, 3_000);
  start();
  document.documentElement.dataset.ready = String(timer);
})();
