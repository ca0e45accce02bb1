//! [`Record`]: a guard that writes exactly one audit event for each exchange, however the exchange ends. The record
//! moves into the body of the answer and writes the event when it is dropped. Refusals of one agent beyond a rate are
//! counted in one event instead.

mod fields;
mod protocols;

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::connect_link::ConnectLink;
use crate::gateway::Gateway;
use crate::refusal::{Refusal, scrub_code};
use keyward_base::agent::Agent;
use keyward_base::codes::Code;
use keyward_base::host::Target;
use keyward_base::id::{ConnectionId, ExchangeId, OrgId, RuleId, TokenId};
use keyward_base::pattern::DecodedPath;
use keyward_rules::inject::body::BodyError;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::own_authorization::OwnAuthorizationUse;
use keyward_rules::inject::placeholder::holds_mark;
use keyward_rules::inject::scrub::InspectError;
use keyward_rules::policy::PolicyQuery;
use keyward_rules::policy::{Permit, set_for};
use keyward_rules::rate_limit::StatedLimit;
use keyward_state::observe::audit::AuditSlot;
use keyward_state::observe::change::Actor;
use keyward_state::observe::event::{Event, Outcome};
use keyward_state::observe::telemetry::{ExchangeKind, ExchangeTrace, FinishedExchange};
use keyward_state::observe::usage::{ExchangeUse, Remaining};

use self::fields::{DatabaseSession, RequestedBy};

/// The audit event of an exchange while it is built. It is serialised once, at the end.
#[derive(Debug)]
pub struct Record {
    slot: Option<AuditSlot>,
    /// On the heap: a record is handed on from stage to stage.
    fields: Box<EventFields>,
    begun: Instant,
    bytes_in: Arc<AtomicU64>,
    gateway: Arc<Gateway>,
    /// The counter of attempts that are still being made.
    attempts: Option<Arc<AtomicU32>>,
    /// `None` while exchanges leave no spans.
    trace: Option<Box<ExchangeTrace>>,
}

/// The fields of the audit event.
#[derive(Debug)]
struct EventFields {
    time: Timestamp,
    exchange: ExchangeId,
    by: RequestedBy,
    rule: Option<RuleId>,
    connection: Option<Arc<str>>,
    connection_id: Option<ConnectionId>,
    generation: Option<u64>,
    target: Option<Target>,
    database: Option<Box<DatabaseSession>>,
    /// The request of a push by git, whose client reads a report.
    push: Option<Arc<PolicyQuery>>,
    /// The account of an SSH login.
    login: Option<Box<str>>,
    method: Option<Method>,
    path: Option<String>,
    status: Option<u16>,
    code: Option<Code>,
    attempts: u32,
    bytes_out: u64,
    scrubbed: u64,
    outcome: Outcome,
    cut_by: Option<String>,
    own_authorization: Option<OwnAuthorizationUse>,
    /// Until the upstream's answer began.
    waited: Option<Duration>,
    limit: Option<Remaining>,
}

impl Record {
    /// Begins a record. Reserves a slot of the audit log first, so that the event can be written at the end.
    ///
    /// # Errors
    /// When the audit log cannot be written: there is no exchange without a record.
    pub async fn begin(gateway: &Arc<Gateway>) -> Result<Self, Refusal> {
        let slot = gateway.audit.reserve().await.map_err(|_| Refusal::AuditUnavailable)?;
        Ok(Self {
            slot: Some(slot),
            fields: Box::new(EventFields::begun(gateway.clock.now())),
            begun: Instant::now(),
            bytes_in: Arc::default(),
            gateway: gateway.clone(),
            attempts: None,
            trace: gateway.telemetry.begin_trace(),
        })
    }

    /// Continues the trace that the agent's request names, if any.
    pub fn continue_trace(&mut self, fields: &HeaderMap) {
        if let Some(trace) = self.trace() {
            trace.continue_from(fields);
        }
    }

    /// The trace, while exchanges leave spans.
    pub fn trace(&mut self) -> Option<&mut ExchangeTrace> {
        self.trace.as_deref_mut()
    }

    pub fn exchange(&self) -> &str {
        self.fields.exchange.as_str()
    }

    pub fn id(&self) -> &ExchangeId {
        &self.fields.exchange
    }

    pub fn time(&self) -> Timestamp {
        self.fields.time
    }

    /// The counter of bytes from the agent.
    pub fn bytes_in(&self) -> Arc<AtomicU64> {
        self.bytes_in.clone()
    }

    pub fn set_agent(&mut self, agent: &Arc<Agent>) {
        self.fields.by = RequestedBy::Agent(agent.clone());
    }

    /// The agent's name; `None` before it has authenticated.
    pub fn agent_name(&self) -> Option<&str> {
        self.fields.by.agent().map(|agent| &*agent.name)
    }

    /// The link to the section about a code, for an agent. A client that has not authenticated does not learn the URL of
    /// the admin listener.
    pub fn docs(&self, code: Code) -> Option<String> {
        self.fields.by.agent()?;
        self.gateway.errors_page.as_deref().map(|page| code.docs(page))
    }

    /// What a person can connect to resolve a refusal, for an agent. In a session of an end user it may wait for a connect
    /// session to be made.
    pub async fn connect_link(&self, refusal: &Refusal) -> ConnectLink {
        let Some(agent) = self.fields.by.agent() else { return ConnectLink::default() };
        let (links, target) = (&self.gateway.connect, self.fields.target.as_ref());
        let link = links.link(refusal, agent, target, &self.gateway.vault.shared_catalogue());
        link.for_end_user(links, agent).await
    }

    /// Sets the actor of the current task as the requester, with a connection of this organisation: no agent takes part.
    pub fn set_actor(&mut self, org: &OrgId) {
        self.fields.by = RequestedBy::current_actor(org);
    }

    /// Sets the method, target and path of the request line.
    pub fn set_request(&mut self, method: &Method, target: Option<&Target>, path: Option<&str>) {
        self.fields.method = Some(method.clone());
        self.fields.target = target.cloned();
        self.fields.path = path.map(ToOwned::to_owned);
    }

    /// Sets the target before the request is parsed.
    pub fn set_target(&mut self, target: Option<&Target>) {
        self.fields.target = target.cloned();
    }

    /// Writes no event. Used for the CONNECT of an intercepted tunnel, whose requests have events of their own, and for
    /// programs that are only examined.
    pub fn discard(&mut self) {
        self.slot = None;
    }

    pub fn set_parsed(&mut self, target: &Target, path: &str, bytes_in: Arc<AtomicU64>) {
        self.fields.target = Some(target.clone());
        if self.fields.path.as_deref() != Some(path) {
            self.fields.path = Some(path.to_owned());
        }
        self.bytes_in = bytes_in;
    }

    pub fn set_permit(&mut self, permit: &Permit) {
        self.fields.rule = Some(permit.rule().clone());
        self.fields.connection = permit.wanted().map(|wanted| wanted.name.clone());
        self.fields.connection_id = permit.wanted().map(|wanted| wanted.connection.clone());
    }

    /// Sets what becomes of an authorization of the request's own.
    pub fn set_own_authorization(&mut self, own: Option<OwnAuthorizationUse>) {
        self.fields.own_authorization = own;
    }

    /// The rule of a tunnel.
    pub fn set_rule(&mut self, rule: &RuleId) {
        self.fields.rule = Some(rule.clone());
    }

    /// Sets the generation of the credential that is sent, and masks it in the path, where a program may have it itself.
    pub fn set_credential(&mut self, credential: Option<&Credential>) {
        self.fields.generation = credential.map(|credential| credential.generation);
        let Some((credential, path)) = credential.zip(self.fields.path.as_deref()) else { return };
        if let Some((masked, _)) = credential.needles.masked(path.as_bytes()) {
            self.fields.path = Some(String::from_utf8_lossy(&masked).into_owned());
        }
    }

    pub fn count_attempt(&mut self) {
        self.fields.attempts += 1;
    }

    /// Adds the attempts that `counter` counts until the record ends.
    pub fn follow_attempts(&mut self, counter: Arc<AtomicU32>) {
        if let Some(before) = self.attempts.replace(counter) {
            self.fields.attempts += before.load(Relaxed);
        }
    }

    /// Sets what the upstream answered. `limit`: the service's rate limit.
    pub fn set_answer(&mut self, status: StatusCode, limit: Option<StatedLimit>) {
        self.gateway.metrics.answered(status.as_u16());
        self.fields.status = Some(status.as_u16());
        self.fields.waited = Some(self.begun.elapsed());
        let clock = &self.gateway.clock;
        self.fields.limit = limit.map(|stated| Remaining { stated, at: clock.now() });
    }

    /// Sets the status 200 of an opened tunnel.
    pub fn set_opened(&mut self) {
        self.fields.status = Some(200);
    }

    /// Keyward answered itself, and refused nothing.
    pub fn set_answered_by_gateway(&mut self) {
        self.fields.status = Some(200);
        self.set_outcome(Outcome::Completed);
    }

    /// Sets the rule that refused the exchange, if there is one.
    pub fn set_denied_by(&mut self, rule: Option<RuleId>) {
        if rule.is_some() {
            self.fields.rule = rule;
        }
    }

    /// Sets the connection that is the cause of the refusal, if no credential was injected before.
    pub fn set_cause(&mut self, connection: Option<&Arc<str>>) {
        let of_permit = self.fields.connection.take();
        self.fields.connection = of_permit.or_else(|| connection.cloned());
    }

    /// Keyward answered itself.
    pub fn set_refused(&mut self, code: Code) {
        self.fields.status = Some(code.status().as_u16());
        self.fields.code = Some(code);
        self.fields.outcome = Outcome::Refused;
        self.count_refusal(code);
    }

    /// The upstream's 401 is passed on: it rejected the credential.
    pub fn count_rejection(&self) {
        if let (Some(token), Some(connection)) =
            (self.fields.by.token(), &self.fields.connection_id)
        {
            self.gateway.metrics.run_refusals.rejected(token, connection);
        }
    }

    /// Before the answer is sent: the run's summary is read soon after it.
    fn count_refusal(&self, code: Code) {
        let Some(token) = self.fields.by.token() else { return };
        let host = || self.fields.refused_host(code);
        self.gateway.metrics.run_refusals.refused(token, code, host);
    }

    /// Adds to the number of masked credentials.
    pub fn add_masked(&mut self, count: u64) {
        self.fields.scrubbed += count;
    }

    /// Records that the answer's body was cut because it must not be passed on.
    pub fn set_cut(&mut self, fault: InspectError) {
        tracing::info!(exchange = self.fields.exchange.as_str(), error = %fault, "an answer was cut");
        self.fields.code = Some(scrub_code(fault));
        self.set_outcome(Outcome::Refused);
    }

    /// The upload of a form was cut for its content, after the answer had begun.
    pub fn set_upload_cut(&mut self, fault: &BodyError) {
        tracing::info!(exchange = self.fields.exchange.as_str(), error = %fault, "an upload was cut");
        self.fields.code = Some(Code::BadRequest);
        self.set_outcome(Outcome::Refused);
    }

    /// Adds body bytes that were sent to the agent.
    pub fn add_sent(&mut self, bytes: u64) {
        self.fields.bytes_out += bytes;
    }

    /// The gateway has ended the stream of an exchange that was still running.
    pub fn set_ended_by_gateway(&mut self) {
        if self.fields.outcome == Outcome::ClientAborted {
            self.fields.outcome = Outcome::Ended;
        }
    }

    /// A person has cut the exchange, and so the gateway has ended it. One that has completed stays so.
    pub fn set_cut_by(&mut self, by: &Actor) {
        if self.fields.outcome == Outcome::Ended {
            self.fields.code = Some(Code::StreamCut);
            self.fields.cut_by = Some(by.to_string());
        }
    }

    /// Sets the outcome, unless the exchange was refused.
    pub fn set_outcome(&mut self, outcome: Outcome) {
        if self.fields.outcome != Outcome::Refused {
            self.fields.outcome = outcome;
        }
    }
}

impl EventFields {
    fn begun(time: Timestamp) -> Self {
        Self {
            time,
            exchange: ExchangeId::random(),
            by: RequestedBy::Unknown,
            rule: None,
            connection: None,
            connection_id: None,
            generation: None,
            target: None,
            database: None,
            push: None,
            login: None,
            method: None,
            path: None,
            status: None,
            code: None,
            attempts: 0,
            bytes_out: 0,
            scrubbed: 0,
            outcome: Outcome::ClientAborted,
            cut_by: None,
            own_authorization: None,
            waited: None,
            limit: None,
        }
    }

    /// The host of a refused request, and the set of hosts that would allow it.
    fn refused_host(&self, code: Code) -> Option<(String, Option<&'static str>)> {
        let target = self.target.as_ref()?;
        let path = self.path.as_deref().and_then(|path| DecodedPath::parse(path).ok());
        let request = self.method.as_ref().filter(|method| *method != Method::CONNECT);
        let request = request.zip(path.as_ref());
        let set = (code == Code::DefaultDeny).then(|| set_for(target, request)).flatten();
        Some((target.authority(), set))
    }

    /// Whether it may be counted with others: it was refused before a credential was sent, and no person asked for it.
    fn is_plain_refusal(&self) -> bool {
        let has_sent = self.generation.is_some() && self.attempts > 0;
        self.outcome == Outcome::Refused && !has_sent && self.by.by().is_none()
    }

    /// What the exchange was, for its span.
    fn kind(&self) -> ExchangeKind<'_> {
        match (&self.database, &self.login) {
            (Some(session), _) => session.kind(),
            (None, Some(_)) => ExchangeKind::SshLogin,
            (None, None) => ExchangeKind::Http,
        }
    }

    /// The usage statistics of the connection and the token.
    fn used(&self, bytes_in: u64) -> ExchangeUse<'_> {
        ExchangeUse {
            org: self.by.org(),
            connection: self.connection_id.as_ref(),
            agent: self.by.agent().map(|agent| &agent.id),
            token: self.by.token(),
            at: self.time,
            status: self.status,
            code: self.code,
            aborted: self.outcome == Outcome::UpstreamAborted,
            waited: self.waited,
            bytes: (bytes_in, self.bytes_out),
            limit: self.limit,
        }
    }

    /// The event without the fields that are known at the end only.
    fn event<'a>(&'a self, target: Option<&'a str>) -> Event<&'a str> {
        let by = &self.by;
        let session = by.session();
        Event {
            org: by.org().map(OrgId::as_str),
            agent: by.agent().map(|agent| &*agent.name),
            token: by.token().map(TokenId::as_str),
            session: session.map(|it| it.id.as_str()),
            session_label: session.and_then(|it| it.label.as_deref()),
            user: by.user(),
            by: by.by(),
            rule: self.rule.as_ref().map(RuleId::as_str),
            connection: self.connection.as_deref(),
            generation: self.generation,
            target,
            method: self.method.as_ref().map(Method::as_str),
            path: self.path.as_deref(),
            status: self.status,
            code: self.code.map(Code::as_str),
            attempts: self.attempts,
            bytes_out: self.bytes_out,
            scrubbed: self.scrubbed,
            outcome: self.outcome,
            cut_by: self.cut_by.as_deref(),
            own_authorization: self.own_authorization.map(OwnAuthorizationUse::as_str),
            database_role: self.database.as_ref().and_then(|it| it.role.as_deref()),
            ..Event::begun(self.time, self.exchange.as_str())
        }
    }
}

/// The path with `***` for each segment that holds a placeholder: unlike the audit log, spans leave this machine.
fn without_placeholders(path: &str) -> Cow<'_, str> {
    if !holds_mark(path) {
        return path.into();
    }
    let masked = path.split('/').map(|segment| if holds_mark(segment) { "***" } else { segment });
    masked.collect::<Vec<_>>().join("/").into()
}

/// Allocates once: most targets fit.
fn text_of(target: &Target) -> String {
    let mut text = String::with_capacity(64);
    write!(text, "{target}").expect("a String takes all that is written");
    text
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        if let Some(attempts) = &self.attempts {
            self.fields.attempts += attempts.load(Relaxed);
        }
        let target = self.fields.target_text();
        let elapsed = self.begun.elapsed().as_millis();
        let event = Event {
            bytes_in: self.bytes_in.load(Relaxed),
            duration_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            ..self.fields.event(target.as_deref())
        };
        self.gateway.metrics.count(&event);
        if let Some(waited) = self.fields.waited {
            self.gateway.metrics.waited(waited);
        }
        self.gateway.metrics.usage.count(&self.fields.used(event.bytes_in));
        tracing::debug!(
            exchange = event.exchange,
            agent = event.agent,
            target = event.target,
            method = event.method,
            rule = event.rule,
            status = event.status,
            code = event.code,
            outcome = event.outcome.as_str(),
            "exchange"
        );
        if let Some(trace) = self.trace.take() {
            let path = event.path.map(without_placeholders);
            let (target, begun) = (self.fields.target.as_ref(), self.begun);
            let (event, kind, path) = (&event, self.fields.kind(), path.as_deref());
            let finished = FinishedExchange { event, kind, target, path, begun };
            self.gateway.telemetry.finish_trace(*trace, &finished);
        }
        let gateway = &self.gateway;
        match self.fields.is_plain_refusal() {
            true => gateway.audit.send_refusal(
                slot,
                &event,
                gateway.limits.refusal_records_per_minute_max,
            ),
            false => slot.send(event.entry()),
        }
    }
}
