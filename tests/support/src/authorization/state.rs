//! The state of clients, codes, devices and tokens, and how each grant changes it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::super::wire::Head;
use super::issuer::{Asked, ClientAuth, Pair, Rules, TokenCall};
use super::{CLIENT, Fault, ISSUER, basic, id_token};

#[derive(Default)]
pub(super) struct State {
    pub(super) rules: Rules,
    pub(super) clients: BTreeMap<String, String>,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) scripts: BTreeMap<String, Vec<u8>>,
    /// Paths whose requests wait for a permit.
    pub(super) held: BTreeMap<String, Arc<Semaphore>>,
    pub(super) codes: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) devices: BTreeMap<String, Device>,
    pub(super) access: BTreeMap<String, Access>,
    pub(super) refresh: BTreeMap<String, Refresh>,
    pub(super) calls: Vec<TokenCall>,
    pub(super) devices_asked: Vec<Asked>,
    pub(super) revoked: Vec<Asked>,
    pub(super) registered: Vec<Asked>,
    pub(super) faults: VecDeque<Fault>,
    pub(super) always: Option<Fault>,
    pub(super) made: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) user_code: String,
    pub(super) scope: String,
    /// The answer to the next polls, in order; then what was decided.
    pub(super) says: VecDeque<String>,
    pub(super) decided: Option<bool>,
}

#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) family: usize,
    pub(super) until: Option<Instant>,
    /// The API was shown it.
    pub(super) seen: bool,
    /// Whose it is.
    pub(super) account: String,
}

#[derive(Clone, Debug)]
pub(super) struct Refresh {
    pub(super) family: usize,
    pub(super) scope: String,
    pub(super) spent: Option<Instant>,
}

impl State {
    pub(super) fn next(&mut self) -> usize {
        self.made += 1;
        self.made
    }

    pub(super) fn secret(&mut self) -> String {
        let mut random = [0; 15];
        getrandom::fill(&mut random).expect("randomness");
        format!("{}{}", self.next(), BASE64_URL_SAFE_NO_PAD.encode(random))
    }

    pub(super) fn pair(&mut self, family: usize, scope: &str) -> Pair {
        let access = format!("at-{}", self.secret());
        let ttl = self.rules.access_ttl.filter(|ttl| *ttl > 0.0);
        let until = ttl.map(|ttl| Instant::now() + Duration::from_secs_f64(ttl));
        let account = self.rules.account.clone();
        self.access.insert(access.clone(), Access { family, until, seen: false, account });
        let refresh = self.rules.refreshes.then(|| format!("rt-{}", self.secret()));
        if let Some(refresh) = &refresh {
            let known = Refresh { family, scope: scope.to_owned(), spent: None };
            self.refresh.insert(refresh.clone(), known);
        }
        Pair { access, refresh }
    }

    pub(super) fn reply(&self, pair: &Pair, scope: &str) -> Value {
        let granted = self.rules.grants.as_deref().unwrap_or(scope);
        let mut reply = json!({
            "access_token": pair.access, "token_type": "Bearer", "scope": granted,
            "account": { "id": self.rules.account },
        });
        if let Some(ttl) = self.rules.access_ttl {
            reply["expires_in"] = json!(ttl);
        }
        if let Some(refresh) = &pair.refresh {
            reply["refresh_token"] = json!(refresh);
        }
        // OpenID Connect Core §3.1.3.3.
        if scope.split(' ').any(|scope| scope == "openid") {
            reply["id_token"] = json!(id_token(&self.id_claims()));
        }
        reply
    }

    /// What an ID token of the present account says.
    pub(super) fn id_claims(&self) -> Value {
        let account = &self.rules.account;
        let now = jiff::Timestamp::now().as_second();
        json!({
            "iss": ISSUER, "aud": CLIENT, "azp": CLIENT, "iat": now, "exp": now + 3_600,
            "sub": format!("id of {account}"), "email": account,
        })
    }

    /// Exactly one way of proving itself, and the right one.
    pub(super) fn client(
        &self,
        head: &Head,
        form: &BTreeMap<String, String>,
    ) -> Result<String, String> {
        let refused = || "invalid_client".to_owned();
        let field = basic(head.one("authorization"));
        let post = form.get("client_secret");
        let (id, secret) = match (self.rules.auth, field, post) {
            (ClientAuth::Basic, Some((id, secret)), None) => (id, Some(secret)),
            (ClientAuth::Post, None, Some(secret)) => {
                (form.get("client_id").ok_or_else(refused)?.clone(), Some(secret.clone()))
            }
            (ClientAuth::None, None, None) => {
                (form.get("client_id").ok_or_else(refused)?.clone(), None)
            }
            (ClientAuth::Assertion, None, None) if form.contains_key("client_assertion") => {
                (form.get("client_id").cloned().unwrap_or_else(|| CLIENT.to_owned()), None)
            }
            _ => return Err(refused()),
        };
        match self.clients.get(&id) {
            Some(known) if secret.as_ref().is_none_or(|secret| secret == known) => Ok(id),
            _ => Err(refused()),
        }
    }

    pub(super) fn grant(
        &mut self,
        head: &Head,
        form: &BTreeMap<String, String>,
    ) -> Result<(Pair, String), String> {
        let of = |name: &str| form.get(name).cloned().unwrap_or_default();
        let kind = of("grant_type");
        // An assertion proves itself.
        let client = match kind.ends_with("jwt-bearer") {
            true => String::new(),
            false => self.client(head, form)?,
        };
        match kind.rsplit(':').next().unwrap_or_default() {
            "authorization_code" => self.redeem(&client, form),
            "refresh_token" => self.renew(&of("refresh_token")),
            "device_code" => self.poll(&of("device_code")),
            "client_credentials" | "jwt-bearer" | "token-exchange" => {
                let family = self.next();
                let mut pair = self.pair(family, &of("scope"));
                if let Some(refresh) = pair.refresh.take() {
                    self.refresh.remove(&refresh);
                }
                Ok((pair, of("scope")))
            }
            _ => Err("unsupported_grant_type".to_owned()),
        }
    }

    pub(super) fn redeem(
        &mut self,
        client: &str,
        form: &BTreeMap<String, String>,
    ) -> Result<(Pair, String), String> {
        let refused = || "invalid_grant".to_owned();
        let asked = self.codes.remove(form.get("code").ok_or_else(refused)?).ok_or_else(refused)?;
        let same = |name: &str| form.get(name) == asked.get(name);
        let digest = form.get("code_verifier").map(|verifier| Sha256::digest(verifier.as_bytes()));
        let challenge = digest.map(|digest| BASE64_URL_SAFE_NO_PAD.encode(digest));
        if asked.get("client_id").map(String::as_str) != Some(client)
            || !same("redirect_uri")
            || !same("resource")
            || challenge.as_ref() != asked.get("code_challenge")
        {
            return Err(refused());
        }
        let scope = asked.get("scope").cloned().unwrap_or_default();
        let family = self.next();
        Ok((self.pair(family, &scope), scope))
    }

    /// A spent token that comes again ends its family (RFC 9700 §4.14.2).
    pub(super) fn renew(&mut self, token: &str) -> Result<(Pair, String), String> {
        let refused = || "invalid_grant".to_owned();
        let known = self.refresh.get(token).cloned().ok_or_else(refused)?;
        if known.spent.is_some_and(|spent| spent.elapsed() >= self.rules.grace) {
            self.end(known.family);
            return Err(refused());
        }
        let mut pair = self.pair(known.family, &known.scope);
        match self.rules.rotates {
            true => {
                let spent = self.refresh.get_mut(token).expect("just read");
                spent.spent.get_or_insert_with(Instant::now);
            }
            // The same goes on working and is not told again.
            false => {
                if let Some(refresh) = pair.refresh.take() {
                    self.refresh.remove(&refresh);
                }
            }
        }
        Ok((pair, known.scope))
    }

    /// The family of an access token that has not ended.
    pub(super) fn live_family(&self, access: &str) -> Option<usize> {
        let known = self.access.get(access)?;
        known.until.is_none_or(|until| Instant::now() < until).then_some(known.family)
    }

    pub(super) fn end(&mut self, family: usize) {
        self.refresh.retain(|_, known| known.family != family);
        self.access.retain(|_, known| known.family != family);
    }

    pub(super) fn poll(&mut self, code: &str) -> Result<(Pair, String), String> {
        let device = self.devices.get_mut(code).ok_or("expired_token")?;
        if let Some(says) = device.says.pop_front() {
            return Err(says);
        }
        match device.decided {
            None => Err("authorization_pending".to_owned()),
            Some(false) => Err("access_denied".to_owned()),
            Some(true) => {
                let scope = device.scope.clone();
                self.devices.remove(code);
                let family = self.next();
                Ok((self.pair(family, &scope), scope))
            }
        }
    }
}
