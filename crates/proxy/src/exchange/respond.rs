//! Turns refusals into HTTP answers. [`view`] is the table of code, message, hint and fields of each; statuses are
//! the codes'. The answers never contain an address, a source error or a secret.

mod json;
mod upstream_refusal;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;

use self::json::ErrorJson;
pub use self::upstream_refusal::dial_refusal;
use self::upstream_refusal::tls_refusal;
use super::answer_body::AnswerBody;
use super::guard::ExchangeGuard;
use crate::base_url::BaseUrlError;
use crate::connect_link::ConnectLink;
use crate::limits::meter::Excess;
use crate::record::Record;
use crate::refusal::{Refusal, RefusalFormat, scrub_code, trailers_only};
use keyward_base::codes::{Code, RefusalText};
use keyward_base::host::Target;
use keyward_base::id::ExchangeId;
use keyward_base::system_error;
use keyward_base::time::whole_seconds;
use keyward_rules::git_push::PushedRefs;
use keyward_rules::inject::body::BodyError;
use keyward_rules::inject::sign::SignError;
use keyward_rules::inject::write::WriteError;
use keyward_vault::VaultError;

static KEYWARD_ERROR: HeaderName = HeaderName::from_static("keyward-error");
static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The message if a credential is not in memory and the store does not answer.
const STORE_AWAY: &str = "the credential cannot be read now, because the store does not answer";

/// The remedy if a rule permits cleartext, but not to this address.
const PLAINTEXT: &str = "use https; cleartext is only for addresses in `upstream.allow_private`, \
                         and never through `upstream.proxy`";

/// The end of the message about a secret whose source gives no value.
const NOT_FETCHED: &str = "cannot be fetched just now";

/// The remedy for a token that is not accepted.
const NEW_TOKEN: &str = "start the program with `keyward run`, or make a new token: `keyward env` or `keyward agent token add NAME`; \
                         `keyward agent show NAME` shows whether the agent is paused";

/// The message for bugs of Keyward.
const FAILED: &str = "keyward failed; its log has this exchange's id";

/// What an agent sees of a refusal.
#[derive(Debug, Eq, PartialEq)]
struct RefusalView {
    text: RefusalText,
    connection: Option<Arc<str>>,
    /// In seconds.
    retry_after: Option<u64>,
    /// The response field that asks for the agent's name and token.
    challenge_field: Option<HeaderName>,
    /// The link to the section about the code.
    docs: Option<String>,
    /// What a person can connect.
    link: ConnectLink,
}

impl RefusalView {
    fn status(&self) -> StatusCode {
        self.text.code.status()
    }

    fn with_names(self, record: &Record) -> Self {
        let text = self.text.with_names(record.agent_name(), self.connection.as_deref());
        Self { text, ..self }
    }
}

impl From<RefusalText> for RefusalView {
    fn from(text: RefusalText) -> Self {
        Self {
            text,
            connection: None,
            retry_after: None,
            challenge_field: None,
            docs: None,
            link: ConnectLink::default(),
        }
    }
}

/// Answers a request with the refusal, and notes it in the record.
pub async fn refusal(refusal: &Refusal, exchange: ExchangeGuard) -> Response<AnswerBody> {
    match refusal {
        Refusal::PlaceholderToken => return json::placeholder_token(exchange),
        Refusal::Probed => return json::answer_to_probed(exchange),
        _ => {}
    }
    let link = exchange.record.connect_link(refusal).await;
    answer(refusal, exchange, None, link)
}

/// Answers a CONNECT. The code and the host are also in the reason phrase, the only part that most clients show.
pub fn connect_refusal(
    refusal: &Refusal,
    target: Option<&Target>,
    exchange: ExchangeGuard,
) -> Response<AnswerBody> {
    let host = target.map_or_else(String::new, |target| format!(" {}", target.host()));
    let phrase = format!("{}{host}", view(refusal).text.code);
    let phrase = ReasonPhrase::try_from(phrase.into_bytes());
    answer(refusal, exchange, phrase.ok(), ConnectLink::default())
}

/// Answers when no record could be begun: without the audit log there are no exchanges.
pub fn unrecorded(refusal: &Refusal, format: RefusalFormat) -> Response<AnswerBody> {
    let view = view(refusal);
    let exchange = ExchangeId::random();
    log(refusal, &view, exchange.as_str());
    response_in(&view, format, exchange.as_str()).map(AnswerBody::unrecorded)
}

/// A refusal for a client that cannot get it as an ordinary answer of the proxy; `record` ends with it.
pub fn refusal_info(refusal: &Refusal, record: Option<&mut Record>) -> RefusalText {
    let mut view = view(refusal);
    if let Some(record) = record {
        view = view.with_names(record);
        note(refusal, &view, record);
    }
    view.text
}

fn answer(
    refusal: &Refusal,
    mut exchange: ExchangeGuard,
    phrase: Option<ReasonPhrase>,
    link: ConnectLink,
) -> Response<AnswerBody> {
    let mut view = view(refusal);
    if let (Refusal::Policy(reason), Some(provider)) = (refusal, &link.provider)
        && let Some(way) = reason.way_in()
    {
        view.text.hint = Some(way.hint("NAME", Some(provider)));
    }
    let mut view = view.with_names(&exchange.record);
    view.link = link;
    // Clients show only the reason phrase of a refused CONNECT.
    if phrase.is_none() {
        view.docs = exchange.record.docs(view.text.code);
    }
    note(refusal, &view, &mut exchange.record);
    let response = match exchange.record.push() {
        Some(refs) if phrase.is_none() => in_git(&view, refs, exchange.record.exchange()),
        _ => None,
    };
    let response =
        response.unwrap_or_else(|| response_in(&view, exchange.format, exchange.record.exchange()));
    let mut response = response.map(|body| AnswerBody::own(body, exchange));
    // npm and others show the reason phrase, and nothing of a body whose `error` is an object.
    let in_full = || {
        ReasonPhrase::try_from(format!("{}: {}", view.text.code, view.text.message).into_bytes())
    };
    if let Some(phrase) = phrase.or_else(|| in_full().ok()) {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// Writes the refusal to the log and the record.
fn note(refusal: &Refusal, view: &RefusalView, record: &mut Record) {
    log(refusal, view, record.exchange());
    if let Refusal::Policy(reason) = refusal {
        record.set_denied_by(reason.rule().cloned());
        record.set_cause(reason.connection());
    }
    // An agent that breaks off is refused nothing.
    if !matches!(refusal, Refusal::AgentGone) {
        record.set_refused(view.text.code);
    }
}

fn response_in(view: &RefusalView, format: RefusalFormat, exchange: &str) -> Response<Bytes> {
    let response = match format {
        RefusalFormat::Http => in_http(view, exchange),
        RefusalFormat::Grpc => in_grpc(view, exchange),
        RefusalFormat::Text => in_text(view, exchange),
    };
    with_fields(response, view)
}

/// A push of git gets a report with status 200, which refuses each reference: git shows the text of no other answer.
/// `None` if its client reads no report.
fn in_git(view: &RefusalView, refs: &PushedRefs, exchange: &str) -> Option<Response<Bytes>> {
    let report = refs.refusal(&sentence(view, exchange))?;
    let mut response = Response::new(Bytes::from(report));
    let report_type = HeaderValue::from_static("application/x-git-receive-pack-result");
    response.headers_mut().insert(header::CONTENT_TYPE, report_type);
    Some(with_fields(response, view))
}

fn with_fields(mut response: Response<Bytes>, view: &RefusalView) -> Response<Bytes> {
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let code = view.text.code;
    fields.insert(KEYWARD_ERROR.clone(), HeaderValue::from_static(code.as_str()));
    fields.insert(PROXY_STATUS.clone(), proxy_status(code));
    if let Some(seconds) = view.retry_after {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn in_http(view: &RefusalView, exchange: &str) -> Response<Bytes> {
    let mut response = Response::new(body(view, exchange));
    *response.status_mut() = view.status();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if matches!(view.status().as_u16(), 400 | 413 | 414 | 417 | 431 | 501) {
        // Bytes after a malformed request cannot be parsed as a request.
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(challenge_field) = &view.challenge_field {
        let challenge = HeaderValue::from_static("Basic realm=\"keyward\", charset=\"UTF-8\"");
        fields.insert(challenge_field, challenge);
    }
    response
}

/// Like [`in_http`], as text: git shows it to its user after `remote: `.
fn in_text(view: &RefusalView, exchange: &str) -> Response<Bytes> {
    let text = sentence(view, exchange);
    let mut response = in_http(view, exchange).map(|_| Bytes::from(text + "\n"));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Everything on one line, for clients that show nothing else.
fn sentence(view: &RefusalView, exchange: &str) -> String {
    let RefusalText { code, message, hint } = &view.text;
    let hint = hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
    let link = view.link.url.as_ref().map_or_else(String::new, |url| format!("; connect: {url}"));
    format!("{code}: {message}{hint}{link} (exchange {exchange})")
}

/// A gRPC client shows the message only, so it contains everything.
fn in_grpc(view: &RefusalView, exchange: &str) -> Response<Bytes> {
    let words = sentence(view, exchange);
    let mut response = Response::new(Bytes::new());
    trailers_only(response.headers_mut(), view.status().as_u16(), &words);
    response
}

/// RFC 9209: `keyward; error=…; details="code"`.
fn proxy_status(code: Code) -> HeaderValue {
    let text = format!("keyward; error={}; details=\"{code}\"", code.proxy_status());
    HeaderValue::try_from(text).expect("constants of visible ASCII")
}

fn body(view: &RefusalView, exchange: &str) -> Bytes {
    let RefusalText { code, message, hint } = &view.text;
    let (code, hint) = (code.as_str(), hint.as_deref());
    let (connection, docs) = (view.connection.as_deref(), view.docs.as_deref());
    let (provider, connect_url) = (view.link.provider.as_deref(), view.link.url.as_deref());
    let error =
        ErrorJson { code, message, exchange, connection, hint, docs, provider, connect_url };
    error.body()
}

fn log(refusal: &Refusal, view: &RefusalView, exchange: &str) {
    let (cause, code) = (system_error::chain(refusal), view.text.code.as_str());
    // A peer may have chosen control bytes in it.
    let cause = cause.escape_debug().to_string();
    match view.status().as_u16() {
        500 => tracing::error!(exchange, code, cause, "refused"),
        502..=504 => {
            tracing::info!(exchange, code, cause, "refused")
        }
        _ => tracing::debug!(exchange, code, cause, "refused"),
    }
}

/// What an agent sees. Without a hint for the case, it is the remedy of the code.
fn view(refusal: &Refusal) -> RefusalView {
    let mut view = table(refusal);
    let remedy = view.text.code.row().remedy;
    view.text.hint.get_or_insert_with(|| remedy.to_owned());
    view
}

/// The table: code, message, hint and fields of each refusal.
fn table(refusal: &Refusal) -> RefusalView {
    // Most refusals have the same message in the answer and in the log.
    let said = |code: Code| code.because(refusal.to_string());
    match refusal {
        Refusal::Unauthenticated => RefusalView {
            challenge_field: Some(header::PROXY_AUTHENTICATE),
            ..said(Code::AgentUnauthenticated).into()
        },
        Refusal::TokenRefused => RefusalView {
            challenge_field: Some(header::PROXY_AUTHENTICATE),
            ..said(Code::AgentUnauthenticated).hint(NEW_TOKEN).into()
        },
        Refusal::SessionEnded => said(Code::SessionExpired).usual_hint().into(),
        Refusal::ListenerAgentGone { .. } => said(Code::AgentUnavailable).usual_hint().into(),
        Refusal::TooManyFailures { retry_after } => {
            after(retry_after.as_secs().max(1), said(Code::TooManyGuesses))
        }
        Refusal::BadRequest(_) | Refusal::AgentGone => said(Code::BadRequest).into(),
        Refusal::BadTarget(_) | Refusal::BadPath(_) => said(Code::BadTarget).into(),
        Refusal::HeadersTooLarge { .. } => said(Code::HeadersTooLarge).into(),
        Refusal::TargetTooLong { .. } => said(Code::TargetTooLong).into(),
        Refusal::TooLarge { .. } => said(Code::TooLarge).usual_hint().into(),
        Refusal::Expectation => said(Code::ExpectationFailed).into(),
        Refusal::Coding => said(Code::CodingUnsupported).into(),
        Refusal::HostMismatch(_) => said(Code::HostMismatch).into(),
        Refusal::PlaceholderToken => said(Code::TokenEndpointRefused).into(),
        Refusal::BaseUrl(fault) => of_base_url(fault),
        Refusal::Policy(reason) => {
            RefusalView { connection: reason.connection().cloned(), ..reason.text().into() }
        }
        Refusal::Vault(error) => of_vault(error.root()),
        Refusal::Write(error) => of_write(error).into(),
        Refusal::RateLimited { connection, excess } => RefusalView {
            connection: Some(connection.clone()),
            ..after(
                whole_seconds(excess.retry_after()),
                said(Code::RateLimited).hint(limit_hint(excess)),
            )
        },
        Refusal::Upgrade => said(Code::UpgradeRefused).into(),
        Refusal::Plaintext => said(Code::PlaintextRefused).hint(PLAINTEXT).into(),
        Refusal::Dial(error) => of_dial(dial_refusal(error)),
        Refusal::Tls(error) => tls_refusal(error).into(),
        Refusal::Protocol { .. } => said(Code::UpstreamProtocol).into(),
        Refusal::Scrubbed(fault) => said(scrub_code(*fault)).usual_hint().into(),
        Refusal::AnswerTimeout => said(Code::UpstreamTimeout).into(),
        Refusal::Overloaded(_) => after(1, said(Code::Overloaded)),
        Refusal::AuditUnavailable => after(1, said(Code::AuditUnavailable)),
        Refusal::Internal(_) | Refusal::Probed => Code::Internal.because(FAILED).into(),
    }
}

/// A refusal with `Retry-After`: the same request may succeed later.
fn after(seconds: u64, text: RefusalText) -> RefusalView {
    RefusalView { retry_after: Some(seconds), ..text.into() }
}

fn of_base_url(fault: &BaseUrlError) -> RefusalView {
    let asks = matches!(fault, BaseUrlError::Unauthenticated { browser: false, .. });
    RefusalView {
        connection: fault.connection().cloned(),
        challenge_field: asks.then_some(header::WWW_AUTHENTICATE),
        ..fault.text().into()
    }
}

/// The refusal if there is no credential. Its hint is for the owner, or says when to retry.
fn of_vault(error: &VaultError) -> RefusalView {
    let text = match error {
        _ if error.is_store_away() => Code::RefreshUnavailable.because(STORE_AWAY),
        VaultError::Store(_) => Code::Internal.because(FAILED),
        VaultError::ConnectionMissing | VaultError::Draft { .. } => {
            Code::ConnectionMissing.because(error.to_string())
        }
        VaultError::RefreshUnavailable { .. } => {
            Code::RefreshUnavailable.because(error.to_string())
        }
        // The reason can name a file of the gateway with its mode, or a program: it is in the log.
        VaultError::SourceUnavailable { connection, .. } => Code::SourceUnavailable
            .because(format!("the secret of connection `{connection}` {NOT_FETCHED}")),
        VaultError::AppSourceUnavailable { app, .. } => {
            Code::SourceUnavailable.because(format!("the secret of app `{app}` {NOT_FETCHED}"))
        }
        _ => Code::ConnectionBroken.because(error.to_string()),
    };
    let hint = error.hint();
    let hint = hint.unwrap_or_else(|| "the gateway's log names the cause and this exchange".into());
    let retry_after = error.retry_after().map(whole_seconds);
    let retry_after = retry_after.or_else(|| error.is_store_away().then_some(1));
    RefusalView { connection: connection_of(error), retry_after, ..text.hint(hint).into() }
}

fn of_write(error: &WriteError) -> RefusalText {
    let malformed = || Code::BadRequest.because(error.to_string());
    match error {
        WriteError::Unsendable => {
            Code::ConnectionBroken.because("the stored credential cannot be sent; store it again")
        }
        WriteError::NoPlace => malformed()
            .hint("a rule with `action: pass` for the path sends it without a credential"),
        WriteError::Body(body) => malformed().hint(body_hint(body)),
        WriteError::PlaceholderInPath => malformed(),
        WriteError::Sign(SignError::AnswersWithCredentials(_)) => {
            Code::TokenEndpointRefused.because(error.to_string())
        }
        WriteError::Sign(_) => malformed(),
    }
}

fn of_dial(text: RefusalText) -> RefusalView {
    match text.code {
        Code::Overloaded => after(1, text),
        _ => text.into(),
    }
}

fn body_hint(error: &BodyError) -> &'static str {
    match error {
        BodyError::None => {
            "send a JSON object or a form; a rule with `action: pass` for the path sends it without \
             a credential"
        }
        BodyError::Kind(_) | BodyError::Malformed(_) => {
            "send a JSON object as `application/json`, or a form as `application/x-www-form-urlencoded` \
             or `multipart/form-data`, as browsers do"
        }
        BodyError::Coded => "send it without a coding",
        BodyError::PathStep { .. } => "omit it, or send an object there",
        BodyError::Repeated(_) => "send the field once",
    }
}

fn limit_hint(excess: &Excess) -> String {
    let setting = match excess {
        Excess::Rate { .. } => "rate_limit",
        Excess::Concurrency { .. } => "concurrency",
    };
    format!(
        "this is Keyward's limit, not the provider's: retry after `Retry-After`, or raise \
         `{setting}` in the connection's settings"
    )
}

fn connection_of(error: &VaultError) -> Option<Arc<str>> {
    match error {
        VaultError::GrantMissing { connection, .. }
        | VaultError::Sealed { connection, .. }
        | VaultError::Mint { connection, .. }
        | VaultError::Draft { connection, .. }
        | VaultError::Broken { connection, .. }
        | VaultError::RefreshUnavailable { connection, .. }
        | VaultError::SourceUnavailable { connection, .. }
        | VaultError::ByHand { connection, .. }
        | VaultError::NotRefreshable { connection } => Some(connection.as_str().into()),
        _ => None,
    }
}
