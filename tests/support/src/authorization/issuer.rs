//! The authorization server's data: clients, codes, devices, tokens and their families, and its log.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::super::wire::{Head, Message};
use super::state::{Device, State};
use super::{CLIENT, CLIENT_SECRET, Fault, ISSUER, answer, doubled, encoded, form, query};

/// How the client has to prove itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAuth {
    Basic,
    Post,
    /// A public client: `client_id` in the body, nothing else.
    None,
    /// An assertion; its signature is for other tests.
    Assertion,
}

/// What the server demands and gives.
#[derive(Clone, Debug)]
pub struct Rules {
    pub auth: ClientAuth,
    /// `expires_in`, in seconds; not told when `None`. It keeps to it itself.
    pub access_ttl: Option<f64>,
    /// Whether it gives refresh tokens.
    pub refreshes: bool,
    /// Whether a refresh token works once.
    pub rotates: bool,
    /// For so long a spent refresh token is answered with a new pair instead of ending the family.
    pub grace: Duration,
    /// Whether PKCE S256 is required.
    pub pkce: bool,
    /// Whether `iss` is sent to the callback and announced (RFC 9207).
    pub iss: bool,
    /// What it grants whatever is asked.
    pub grants: Option<String>,
    /// Its `interval` for devices, in seconds; the default of 5 s when `None`.
    pub interval: Option<f64>,
    /// Whom its tokens belong to.
    pub account: String,
    /// Whether revoking a spent refresh token ends its family, as most servers do.
    pub spent_revokes: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            auth: ClientAuth::Basic,
            access_ttl: Some(3600.0),
            refreshes: true,
            rotates: true,
            grace: Duration::ZERO,
            pkce: true,
            iss: true,
            grants: None,
            interval: None,
            account: "alice@acme.test".to_owned(),
            spent_revokes: true,
        }
    }
}

/// What was issued at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pair {
    pub access: String,
    pub refresh: Option<String>,
}

/// One call of the token endpoint.
#[derive(Clone, Debug)]
pub struct TokenCall {
    /// When its last byte came.
    pub at: Instant,
    /// On which accepted stream, from 0.
    pub stream: usize,
    pub head: Head,
    /// The body.
    pub text: String,
    /// The body's parameters, of a form or a flat JSON object.
    pub form: BTreeMap<String, String>,
    /// Whether a parameter stood twice.
    pub doubled: bool,
    /// What it issued, also when the answer was lost.
    pub issued: Option<Pair>,
    /// The error that it answered with by its own rules.
    pub error: Option<String>,
    /// Whether the answer was written to its end.
    pub delivered: bool,
}

/// One call of another endpoint.
#[derive(Clone, Debug)]
pub struct Asked {
    pub head: Head,
    pub form: BTreeMap<String, String>,
    pub text: String,
}

/// The inside of an authorization server; cheap to clone.
#[derive(Clone)]
pub struct Issuer(Arc<Mutex<State>>);

impl Issuer {
    pub(super) fn new(rules: Rules) -> Self {
        let clients = BTreeMap::from([(CLIENT.to_owned(), CLIENT_SECRET.to_owned())]);
        Self(Arc::new(Mutex::new(State { rules, clients, ..State::default() })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }

    /// Changes the rules while it runs.
    pub fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.state().rules);
    }

    /// Knows a client whose id is the address of a document.
    pub fn know_client(&self, id: &str) {
        self.state().clients.insert(id.to_owned(), String::new());
    }

    /// The first client has another secret from now on.
    pub fn change_secret(&self, secret: &str) {
        self.state().clients.insert(CLIENT.to_owned(), secret.to_owned());
    }

    /// Forgets a client, as servers do with registered ones.
    pub fn forget_client(&self, id: &str) {
        self.state().clients.remove(id);
    }

    /// A tokens pair of a new family, as if consented to elsewhere.
    pub fn issue(&self) -> Pair {
        let mut state = self.state();
        let family = state.next();
        state.pair(family, "read")
    }

    /// Whether the API takes this access token now.
    pub fn is_live(&self, access: &str) -> bool {
        self.state().live_family(access).is_some()
    }

    /// Whether this refresh token would be taken.
    pub fn is_fresh(&self, refresh: &str) -> bool {
        self.state().refresh.get(refresh).is_some_and(|known| known.spent.is_none())
    }

    /// Every access token ends; refresh tokens stay.
    pub fn expire_all(&self) {
        self.state().access.clear();
    }

    /// Every access token that the API was shown ends. One that is on its way to its client does not: a client
    /// that was refused once is not refused again.
    pub fn expire_seen(&self) {
        self.state().access.retain(|_, known| !known.seen);
    }

    /// Every grant ends.
    pub fn end_all(&self) {
        let mut state = self.state();
        state.access.clear();
        state.refresh.clear();
    }

    /// What an ID token of the present account says; a test may bend it.
    pub fn id_claims(&self) -> Value {
        self.state().id_claims()
    }

    /// Whose a live bearer token of a request is.
    pub fn account_of(&self, request: &Message) -> Option<String> {
        let token = request.head.one("authorization")?.strip_prefix("Bearer ")?.to_owned();
        let live = self.is_live(&token);
        self.state().access.get(&token).filter(|_| live).map(|known| known.account.clone())
    }

    /// OpenID Connect Core §5.3.
    pub(super) fn userinfo(&self, request: &Message) -> Vec<u8> {
        match self.account_of(request) {
            Some(account) => {
                answer(200, &json!({ "sub": format!("id of {account}"), "email": account }))
            }
            None => answer(401, &json!({ "error": "invalid_token" })),
        }
    }

    /// What an API behind this server answers: 200 `body` to a live bearer token, else 401.
    pub fn api(&self, request: &Message, body: &str) -> String {
        let field = request.head.one("authorization").unwrap_or_default();
        let token = field.strip_prefix("Bearer ").unwrap_or_default();
        if let Some(known) = self.state().access.get_mut(token) {
            known.seen = true;
        }
        match self.is_live(token) {
            true => super::super::origin::ok(body),
            false => {
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error=\"invalid_token\"\
                      \r\nContent-Length: 0\r\n\r\n"
                    .to_owned()
            }
        }
    }

    pub(super) fn calls(&self) -> Vec<TokenCall> {
        self.state().calls.clone()
    }

    /// Calls of the device endpoint.
    pub fn devices_asked(&self) -> Vec<Asked> {
        self.state().devices_asked.clone()
    }

    /// Calls of the revocation endpoint.
    pub fn revoked(&self) -> Vec<Asked> {
        self.state().revoked.clone()
    }

    /// Calls of the registration endpoint.
    pub fn registered(&self) -> Vec<Asked> {
        self.state().registered.clone()
    }

    pub(super) fn fail_next(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    pub(super) fn fail_always(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    pub(super) fn next_fault(&self) -> Option<Fault> {
        let mut state = self.state();
        state.faults.pop_front().or_else(|| state.always.clone())
    }

    /// The answer at a path other than the token endpoint, byte for byte, from now on.
    pub fn script(&self, path: &str, answer: impl Into<Vec<u8>>) {
        self.state().scripts.insert(path.to_owned(), answer.into());
    }

    /// Answers there by its own rules again.
    pub fn unscript(&self, path: &str) {
        self.state().scripts.remove(path);
    }

    pub(super) fn scripted(&self, path: &str) -> Option<Vec<u8>> {
        self.state().scripts.get(path).cloned()
    }

    pub(super) fn hold(&self, path: &str, gate: Arc<Semaphore>) {
        self.state().held.insert(path.to_owned(), gate);
    }

    pub(super) fn held(&self, path: &str) -> Option<Arc<Semaphore>> {
        self.state().held.get(path).cloned()
    }

    /// Changes a member of the metadata; `null` takes it away.
    pub fn tell(&self, member: &str, value: Value) {
        self.state().metadata.insert(member.to_owned(), value);
    }

    /// What discovery reads (RFC 8414).
    pub fn metadata(&self) -> Value {
        let state = self.state();
        let mut metadata = json!({
            "issuer": ISSUER,
            "authorization_endpoint": format!("{ISSUER}/authorize"),
            "token_endpoint": format!("{ISSUER}/token"),
            "device_authorization_endpoint": format!("{ISSUER}/device"),
            "revocation_endpoint": format!("{ISSUER}/revoke"),
            "registration_endpoint": format!("{ISSUER}/register"),
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "authorization_response_iss_parameter_supported": state.rules.iss,
        });
        for (member, value) in &state.metadata {
            match value {
                Value::Null => drop(metadata.as_object_mut().expect("an object").remove(member)),
                value => metadata[member] = value.clone(),
            }
        }
        metadata
    }

    /// The person agrees to what the URL asks for: where the browser is sent.
    ///
    /// # Panics
    /// When the request is none that a strict server takes.
    pub fn consent(&self, url: &str) -> String {
        let text = url.split_once('?').expect("a query").1;
        assert!(!doubled(text), "{url}");
        let asked = query(url);
        let mut state = self.state();
        assert!(state.clients.contains_key(&asked["client_id"]), "{url}");
        assert_eq!(asked["response_type"], "code");
        if state.rules.pkce {
            assert_eq!(asked["code_challenge_method"], "S256");
            assert_eq!(asked["code_challenge"].len(), 43);
        }
        let code = format!("code-{}", state.secret());
        let iss = if state.rules.iss { format!("&iss={}", encoded(ISSUER)) } else { String::new() };
        let (redirect, is) = (asked["redirect_uri"].clone(), asked["state"].clone());
        state.codes.insert(code.clone(), asked);
        format!("{redirect}?code={code}&state={is}{iss}")
    }

    /// The person declines.
    pub fn decline(&self, url: &str) -> String {
        let asked = query(url);
        let iss = if self.state().rules.iss {
            format!("&iss={}", encoded(ISSUER))
        } else {
            String::new()
        };
        format!("{}?error=access_denied&state={}{iss}", asked["redirect_uri"], asked["state"])
    }

    /// The person types the code of a device and decides.
    pub fn decide(&self, user_code: &str, agrees: bool) {
        let mut state = self.state();
        let device = state.devices.values_mut().find(|device| device.user_code == user_code);
        device.expect("the user code").decided = Some(agrees);
    }

    /// What the next polls of a device are told, before what was decided.
    pub fn poll_says(&self, user_code: &str, says: &[&str]) {
        let mut state = self.state();
        let device = state.devices.values_mut().find(|device| device.user_code == user_code);
        device.expect("the user code").says.extend(says.iter().map(|&code| code.to_owned()));
    }

    /// The user codes that wait for a person.
    pub fn user_codes(&self) -> Vec<String> {
        let waits = |device: &&Device| device.decided.is_none();
        self.state().devices.values().filter(waits).map(|d| d.user_code.clone()).collect()
    }

    pub(super) fn device(&self, request: &Message) -> Vec<u8> {
        let mut state = self.state();
        let asked = asked(request);
        state.devices_asked.push(asked.clone());
        if let Err(error) = state.client(&request.head, &asked.form) {
            return answer(401, &json!({ "error": error }));
        }
        let (code, user_code) =
            (format!("device-{}", state.secret()), format!("ABCD-{:04}", state.next()));
        let scope = asked.form.get("scope").cloned().unwrap_or_default();
        let device =
            Device { user_code: user_code.clone(), scope, says: VecDeque::new(), decided: None };
        state.devices.insert(code.clone(), device);
        let mut told = json!({
            "device_code": code, "user_code": user_code,
            "verification_uri": format!("{ISSUER}/activate"),
            "verification_uri_complete": format!("{ISSUER}/activate?user_code={user_code}"),
            "expires_in": 600,
        });
        if let Some(interval) = state.rules.interval {
            told["interval"] = json!(interval);
        }
        answer(200, &told)
    }

    pub(super) fn revoke(&self, request: &Message) -> Vec<u8> {
        let mut state = self.state();
        let asked = asked(request);
        state.revoked.push(asked.clone());
        let bearer = request.head.one("authorization").and_then(|it| it.strip_prefix("Bearer "));
        // A live access token proves itself and ends its family, as at Dropbox.
        if let Some(token) = bearer {
            return match state.live_family(token) {
                Some(family) => {
                    state.end(family);
                    answer(200, &Value::Null)
                }
                None => answer(401, &json!({ "error": { ".tag": "expired_access_token" } })),
            };
        }
        if let Err(error) = state.client(&request.head, &asked.form) {
            return answer(401, &json!({ "error": error }));
        }
        let token = asked.form.get("token").cloned().unwrap_or_default();
        let known = state.refresh.get(&token).map(|known| (known.family, known.spent));
        match known {
            Some((_, Some(_))) if !state.rules.spent_revokes => {}
            Some((family, _)) => state.end(family),
            None => drop(state.access.remove(&token)),
        }
        answer(200, &json!({}))
    }

    pub(super) fn register(&self, request: &Message) -> Vec<u8> {
        let mut state = self.state();
        state.registered.push(asked(request));
        let (id, secret) = (format!("dynamic-{}", state.next()), state.secret());
        state.clients.insert(id.clone(), secret.clone());
        let mut told: Value = serde_json::from_slice(&request.body).expect("JSON");
        told["client_id"] = id.into();
        if told["token_endpoint_auth_method"] != "none" {
            told["client_secret"] = secret.into();
            told["client_secret_expires_at"] = 0.into();
        }
        answer(201, &told)
    }

    /// One call of the token endpoint: its number, and status and body of the honest reply.
    /// Nothing is done when it is prevented.
    pub(super) fn token(
        &self,
        request: &Message,
        stream: usize,
        prevented: bool,
    ) -> (usize, u16, Value) {
        let asked = asked(request);
        let mut state = self.state();
        let done = match prevented {
            true => Err("prevented".to_owned()),
            false => state.grant(&request.head, &asked.form),
        };
        let call = TokenCall {
            at: Instant::now(),
            stream,
            head: request.head.clone(),
            doubled: doubled(&asked.text),
            text: asked.text,
            form: asked.form,
            issued: done.as_ref().ok().map(|(pair, _)| pair.clone()),
            error: done.as_ref().err().filter(|_| !prevented).cloned(),
            delivered: false,
        };
        state.calls.push(call);
        let number = state.calls.len() - 1;
        match done {
            Ok((pair, scope)) => (number, 200, state.reply(&pair, &scope)),
            Err(error) if error == "invalid_client" => (number, 401, json!({ "error": error })),
            Err(error) => (number, 400, json!({ "error": error })),
        }
    }

    pub(super) fn delivered(&self, call: usize) {
        self.state().calls[call].delivered = true;
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issuer")
    }
}

/// A form, or a flat JSON object.
fn asked(request: &Message) -> Asked {
    let text = request.text();
    let form = match serde_json::from_str::<BTreeMap<String, Value>>(&text) {
        Ok(object) => {
            let plain = |value: Value| value.as_str().map_or(value.to_string(), str::to_owned);
            object.into_iter().map(|(name, value)| (name, plain(value))).collect()
        }
        Err(_) => form(&text),
    };
    Asked { head: request.head.clone(), form, text }
}
