//! Values of services over HTTP, fetched by the requests that the file of the kind has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use http::{HeaderName, StatusCode};
use serde_json::Value;

use super::error::SourceError;
use super::forms::{FindForm, LoginForm, ReadForm, RequestForm, SourceRequests, requests_of};
use super::request::{SourceRequest, send, send_following};
use super::sealed::{CipherKey, SealingToken};
use super::session::{LoginSlot, Protected, SourceLogin};
use super::sigv4;
use super::templates::Scope;
use super::value::{field_in, filled, labelled_in, member_of, split, text_in};
use keyward_base::secret::Secret;
use keyward_base::time::Clock;
use keyward_model::{Record, Source, SourceKind};
use keyward_net::call::HttpClient;

/// Tokens of service accounts are about 1 KiB.
const TOKEN_FILE_BYTES_MAX: u64 = 16 * 1024;

/// The parameters of a fetch.
pub(crate) struct Fetch<'a> {
    pub(crate) source: &'a Record<Source>,
    pub(crate) credentials: &'a BTreeMap<String, Secret>,
    /// The token of another connection, for kinds that use one.
    pub(crate) bearer: Option<Secret>,
    /// `None` until the network is configured.
    pub(crate) caller: Option<Arc<HttpClient>>,
    pub(crate) clock: &'a Clock,
}

/// A value of a service.
struct ServiceValue<'a> {
    fetch: &'a Fetch<'a>,
    caller: &'a HttpClient,
    kind: &'static SourceKind,
    requests: &'static SourceRequests,
    scope: Scope<'a>,
    login: Option<&'static LoginForm>,
    read: &'static ReadForm,
    member: Option<&'a str>,
}

pub(super) async fn value(
    fetch: &Fetch<'_>,
    slot: &LoginSlot<'_>,
    reference: &str,
) -> Result<Secret, SourceError> {
    let caller = fetch.caller.as_deref().ok_or(SourceError::NoNetwork)?;
    let (kind, settings) = fetch.source.spec.kind().ok_or(SourceError::Kind)?;
    let requests = requests_of(kind).ok_or(SourceError::Kind)?;
    let mut logins = requests.login.iter();
    let login = logins.find(|it| settings.meet(it.when.as_ref()));
    let mut reads = requests.read.iter();
    let read = reads.find(|it| settings.meet(it.when.as_ref())).ok_or(SourceError::Kind)?;
    let (path, member) = if read.labelled { (reference, None) } else { split(reference)? };
    let scope = Scope::new(kind, requests, settings, fetch.credentials, path)?;
    let value = ServiceValue { fetch, caller, kind, requests, scope, login, read, member };
    match login {
        Some(_) => slot.read(&value).await,
        None => value.read_as(None).await,
    }
}

impl Protected for ServiceValue<'_> {
    type Answer = Secret;

    async fn log_in(&self) -> Result<SourceLogin, SourceError> {
        let form = self.login.ok_or(SourceError::Kind)?;
        let mut scope = self.scope.clone();
        for (name, path) in &form.files {
            let path = scope.plain(path)?.ok_or(SourceError::Kind)?;
            let token = token_file(path).await?;
            scope.insert(name, token);
        }
        let sealing = match &self.requests.sealed {
            Some(form) => {
                let token = SealingToken::parse(scope.credential_text("token")?, form);
                Some(token.ok_or(SourceError::AccessToken(&self.kind.title))?)
            }
            None => None,
        };
        if let Some(token) = &sealing {
            scope.insert("token_id", token.id.to_owned());
            scope.insert("token_secret", token.secret.to_owned());
        }
        let answer = self.answer(self.ask(&scope, &form.ask)?).await.map_err(of_login)?;
        let text =
            |at: &str| answer.pointer(at).and_then(Value::as_str).ok_or(SourceError::Malformed);
        let key = match sealing {
            Some(token) => {
                let key = token.value_key(text(&form.key)?);
                let failed = |error| SourceError::Decryption { what: "login's answer", error };
                Some(key.map_err(failed)?)
            }
            None => None,
        };
        let seconds = answer.pointer(&form.seconds).and_then(Value::as_u64).unwrap_or_default();
        Ok(SourceLogin { token: Secret::new(text(&form.token)?), key, seconds })
    }

    async fn read(&self, login: &SourceLogin) -> Result<Secret, SourceError> {
        self.read_as(Some(login)).await
    }
}

impl ServiceValue<'_> {
    async fn read_as(&self, login: Option<&SourceLogin>) -> Result<Secret, SourceError> {
        let mut scope = self.scope.clone();
        for form in &self.requests.find {
            let id = self.id_of(form, &scope, login).await?;
            if let Some(id) = id {
                scope.insert(&form.name, id);
            }
        }
        let answer = self.asked(&self.read.ask, &scope, login).await?;
        if let Some(at) = &self.read.fields {
            return filled(Secret::from(field_in(answer.pointer(at), self.member)?));
        }
        if self.read.labelled {
            let field = scope.part("field").ok_or(SourceError::Kind)?;
            return filled(Secret::from(labelled_in(answer, scope.part("section"), field)?));
        }
        let text = text_in(&answer, self.read)?;
        let text = match login.and_then(|login| login.key.as_ref()) {
            Some(key) => {
                let plain = CipherKey::new(key.expose()).and_then(|key| key.decrypt(&text));
                let failed = |error| SourceError::Decryption { what: "value", error };
                let plain = plain.map_err(failed)?;
                String::from_utf8(plain.to_vec()).map_err(|_| SourceError::Malformed)?
            }
            None => text,
        };
        member_of(text, self.member)
    }

    /// The id of a name; two of one name are ambiguous. `None`: the name is an id.
    async fn id_of(
        &self,
        form: &'static FindForm,
        scope: &Scope<'_>,
        login: Option<&SourceLogin>,
    ) -> Result<Option<String>, SourceError> {
        if scope.part(&form.name).is_some_and(|name| form.unless.matches(name)) {
            return Ok(None);
        }
        let answer = self.asked(&form.ask, scope, login).await?;
        match answer.as_array().map(Vec::as_slice) {
            Some([]) => Err(SourceError::NotFound),
            Some([one]) => match one["id"].as_str() {
                Some(id) => Ok(Some(id.to_owned())),
                None => Err(SourceError::Malformed),
            },
            Some(_) => Err(SourceError::Several),
            None => Err(SourceError::Malformed),
        }
    }

    /// The answer to a request with the token or a signature.
    async fn asked(
        &self,
        form: &'static RequestForm,
        scope: &Scope<'_>,
        login: Option<&SourceLogin>,
    ) -> Result<Value, SourceError> {
        let ask = self.ask(scope, form)?;
        if let Some(form) = &self.requests.signature {
            let ask = sigv4::signed(ask, form, scope, self.fetch.clock.now())?;
            return self.answer(ask).await;
        }
        let token = match (login, &self.fetch.bearer) {
            (Some(login), _) => &login.token,
            (None, Some(bearer)) => bearer,
            (None, None) => scope.credential("token")?,
        };
        let ask = match &self.requests.token_header {
            Some(name) => ask.with_secret(header(name)?, "", token)?,
            None => ask.bearer(token)?,
        };
        self.answer(ask).await
    }

    /// A request without what proves Keyward's identity.
    fn ask(
        &self,
        scope: &Scope<'_>,
        form: &'static RequestForm,
    ) -> Result<SourceRequest, SourceError> {
        let url = scope.url(&form.url)?;
        let mut ask = match (&form.json, &form.form) {
            (Some(members), _) => {
                SourceRequest::post(&url, "application/json", scope.json(members)?)?
            }
            (None, Some(form)) => {
                let body = scope.parameters(form)?.into_bytes();
                SourceRequest::post(&url, "application/x-www-form-urlencoded", body)?
            }
            (None, None) => SourceRequest::get(&url)?,
        };
        for (name, value) in &self.requests.headers {
            if let Some(value) = scope.plain(value)? {
                ask = ask.with(header(name)?, &value)?;
            }
        }
        Ok(ask)
    }

    async fn answer(&self, ask: SourceRequest) -> Result<Value, SourceError> {
        let refusals = &self.requests.refusals;
        match self.requests.follows {
            true => send_following(self.caller, ask, refusals).await,
            false => send(self.caller, ask, refusals).await,
        }
    }
}

/// The error of a login: a server that has no such path has no value for that reason.
fn of_login(error: SourceError) -> SourceError {
    match error {
        SourceError::NotFound => {
            SourceError::Status { status: StatusCode::NOT_FOUND, detail: None }
        }
        error => error,
    }
}

fn header(name: &str) -> Result<HeaderName, SourceError> {
    name.parse().map_err(|_| SourceError::Malformed)
}

/// The token in a file of the gateway's machine.
async fn token_file(path: String) -> Result<String, SourceError> {
    let file = path.clone();
    let read = move || {
        let mut token = Vec::with_capacity(4 * 1024);
        File::open(file)?.take(TOKEN_FILE_BYTES_MAX).read_to_end(&mut token)?;
        Ok::<_, io::Error>(Secret::new(token))
    };
    let token = tokio::task::spawn_blocking(read).await.map_err(|_| SourceError::Kind)?;
    let token = token.map_err(|_| SourceError::TokenFile(path))?;
    Ok(token.expose_text().ok_or(SourceError::Malformed)?.trim().to_owned())
}
