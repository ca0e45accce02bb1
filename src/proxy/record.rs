//! [`Record`]: the guard that leaves exactly one audit event for an exchange, however it ends. It
//! moves into the body of the answer and sends its event when that is dropped.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderMap, Method};
use jiff::Timestamp;
use tokio::time::Instant;

use super::error::Refusal;
use super::grpc::Dialect;
use super::meter::Turn;
use super::pulse::Pulse;
use super::retry::Tries;
use super::session::Session;
use super::{Gateway, answer::Sent, inbound::Inbound, respond};
use crate::base::agent::Agent;
use crate::base::host::Target;
use crate::base::id::{ConnectionId, ExchangeId, OrgId, RuleId, TokenId};
use crate::inject::credential::Credential;
use crate::inject::scrub::Fault;
use crate::observe::audit::Slot;
use crate::observe::event::{Event, Outcome};
use crate::observe::usage::{Remaining, Used};
use crate::policy::Permit;

/// The audit event of an exchange in the making. Becomes text once, at the end.
#[derive(Debug)]
pub struct Record {
    slot: Option<Slot>,
    /// On the heap: a record is handed on from stage to stage.
    noted: Box<Noted>,
    begun: Instant,
    bytes_in: Arc<AtomicU64>,
    gateway: Arc<Gateway>,
    pulse: Option<Arc<Pulse>>,
    session: Option<Arc<Session>>,
    dialect: Dialect,
    tries: Option<Arc<Tries>>,
    /// Its place among the exchanges of a connection, given back with the record.
    turn: Option<Turn>,
}

/// What is known of the exchange.
#[derive(Debug)]
struct Noted {
    time: Timestamp,
    exchange: ExchangeId,
    by: By,
    rule: Option<RuleId>,
    connection: Option<Arc<str>>,
    connection_id: Option<ConnectionId>,
    generation: Option<u64>,
    target: Option<Target>,
    method: Option<Method>,
    path: Option<String>,
    status: Option<u16>,
    code: Option<&'static str>,
    attempts: u32,
    bytes_out: u64,
    scrubbed: u64,
    outcome: Outcome,
    /// Until the upstream's answer began.
    waited: Option<Duration>,
    limit: Option<Remaining>,
}

/// Who asks.
#[derive(Debug)]
enum By {
    Nobody,
    Agent(Agent),
    Owner(OrgId),
}

impl Record {
    /// Begins a record; waits for a slot of the audit log, so that the event can be sent for sure.
    ///
    /// # Errors
    /// While the audit log cannot be written: no exchange without its record.
    pub async fn begin(gateway: &Arc<Gateway>) -> Result<Self, Refusal> {
        let slot = gateway.audit.reserve().await.map_err(|_| Refusal::AuditUnavailable)?;
        Ok(Self {
            slot: Some(slot),
            noted: Box::new(Noted::begun(gateway.clock.now())),
            begun: Instant::now(),
            bytes_in: Arc::default(),
            gateway: gateway.clone(),
            pulse: None,
            session: None,
            dialect: Dialect::default(),
            tries: None,
            turn: None,
        })
    }

    /// The exchange's id.
    pub fn exchange(&self) -> &str {
        self.noted.exchange.as_str()
    }

    /// The counter of bytes from the agent.
    pub fn bytes_in(&self) -> Arc<AtomicU64> {
        self.bytes_in.clone()
    }

    /// Marks the stream idle when the record ends.
    pub fn ends(&mut self, pulse: &Arc<Pulse>) {
        self.pulse = Some(pulse.clone());
    }

    /// Marks the session's stream idle when the record ends: it rests on nothing but its agent then.
    pub fn ends_in(&mut self, session: &Arc<Session>) {
        self.ends(&session.pulse);
        self.session = Some(session.clone());
    }

    /// How the agent understands a refusal.
    pub fn speaks(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// How to tell a refusal.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Who asks.
    pub fn asked_by(&mut self, agent: &Agent) {
        self.noted.by = By::Agent(agent.clone());
    }

    /// No agent asks: the owner of a connection tests it.
    pub fn asked_by_owner(&mut self, org: &OrgId) {
        self.noted.by = By::Owner(org.clone());
    }

    /// What the first line says.
    pub fn asked_for(&mut self, method: &Method, target: Option<&Target>, path: Option<&str>) {
        self.noted.method = Some(method.clone());
        self.noted.target = target.cloned();
        self.noted.path = path.map(ToOwned::to_owned);
    }

    /// Where it goes, before the request is parsed.
    pub fn at(&mut self, target: Option<&Target>) {
        self.noted.target = target.cloned();
    }

    /// Leaves no event: the CONNECT of an intercepted tunnel, whose requests are the exchanges.
    pub fn discard(mut self) {
        self.slot = None;
    }

    /// The parsed request.
    pub fn parsed(&mut self, inbound: &Inbound) {
        self.noted.target = Some(inbound.target().clone());
        if self.noted.path.as_deref() != Some(inbound.path()) {
            self.noted.path = Some(inbound.path().to_owned());
        }
        self.bytes_in = inbound.body.count();
    }

    /// What policy said.
    pub fn permitted(&mut self, permit: &Permit) {
        self.noted.rule = Some(permit.rule().clone());
        self.noted.connection = permit.wanted().map(|wanted| wanted.name.clone());
        self.noted.connection_id = permit.wanted().map(|wanted| wanted.connection.clone());
    }

    /// The rule of a tunnel.
    pub fn tunnelled(&mut self, rule: &RuleId) {
        self.noted.rule = Some(rule.clone());
    }

    /// Which generation of the credential goes out.
    pub fn injected(&mut self, credential: Option<&Credential>) {
        self.noted.generation = credential.map(|credential| credential.generation);
    }

    /// The request is sent: once, or as often as `tries` counts.
    pub fn attempts(&mut self, tries: Option<&Arc<Tries>>) {
        match tries {
            None => self.noted.attempts += 1,
            Some(tries) => {
                tries.count();
                let before = self.tries.replace(tries.clone());
                // Sent once more with a newer credential: those are further attempts.
                if let Some(before) = before.filter(|before| !Arc::ptr_eq(before, tries)) {
                    self.noted.attempts += before.made();
                }
            }
        }
    }

    /// Keeps the exchange counted as under way.
    pub fn holds(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }

    /// The upstream answered.
    pub fn answered(&mut self, sent: &Sent) {
        self.noted.status = Some(sent.status().as_u16());
        self.noted.waited = Some(self.begun.elapsed());
        self.noted.limit = remaining(sent.headers(), self.gateway.clock.now());
    }

    /// A status of ours that is no refusal: the 200 of a tunnel.
    pub fn opened(&mut self) {
        self.noted.status = Some(200);
    }

    /// Keyward answered itself.
    pub fn refused(&mut self, status: u16, code: &'static str) {
        self.noted.status = Some(status);
        self.noted.code = Some(code);
        self.noted.outcome = Outcome::Refused;
    }

    /// So many needles were masked.
    pub fn masked(&mut self, count: u64) {
        self.noted.scrubbed += count;
    }

    /// The answer's body was cut: it must not go on.
    pub fn cut(&mut self, fault: Fault) {
        tracing::info!(exchange = self.noted.exchange.as_str(), error = %fault, "an answer was cut");
        self.noted.code = Some(respond::code(fault));
        self.ended(Outcome::Refused);
    }

    /// Body bytes went to the agent.
    pub fn sent(&mut self, bytes: u64) {
        self.noted.bytes_out += bytes;
        if let Some(pulse) = &self.pulse {
            pulse.wrote();
        }
    }

    /// How it ended, unless it was refused.
    pub fn ended(&mut self, outcome: Outcome) {
        if self.noted.outcome != Outcome::Refused {
            self.noted.outcome = outcome;
        }
    }
}

impl Noted {
    fn begun(time: Timestamp) -> Self {
        Self {
            time,
            exchange: ExchangeId::random(),
            by: By::Nobody,
            rule: None,
            connection: None,
            connection_id: None,
            generation: None,
            target: None,
            method: None,
            path: None,
            status: None,
            code: None,
            attempts: 0,
            bytes_out: 0,
            scrubbed: 0,
            outcome: Outcome::ClientAborted,
            waited: None,
            limit: None,
        }
    }

    /// What is counted by connection and token.
    fn used(&self, bytes: (u64, u64)) -> Used<'_> {
        let (agent, token) = match &self.by {
            By::Agent(agent) => (Some(&agent.id), agent.token.as_ref()),
            By::Nobody | By::Owner(_) => (None, None),
        };
        Used {
            connection: self.connection_id.as_ref(),
            agent,
            token,
            at: self.time,
            status: self.status,
            code: self.code,
            aborted: self.outcome == Outcome::UpstreamAborted,
            waited: self.waited,
            bytes,
            limit: self.limit,
        }
    }

    /// The event, but for what only its end knows.
    fn event<'a>(&'a self, target: Option<&'a str>) -> Event<&'a str> {
        let (org, agent, token) = match &self.by {
            By::Nobody => (None, None, None),
            By::Agent(Agent { org, name, token, .. }) => {
                (Some(org.as_str()), Some(&**name), token.as_ref().map(TokenId::as_str))
            }
            By::Owner(org) => (Some(org.as_str()), None, None),
        };
        Event {
            org,
            agent,
            token,
            rule: self.rule.as_ref().map(RuleId::as_str),
            connection: self.connection.as_deref(),
            generation: self.generation,
            target,
            method: self.method.as_ref().map(Method::as_str),
            path: self.path.as_deref(),
            status: self.status,
            code: self.code,
            attempts: self.attempts,
            bytes_out: self.bytes_out,
            scrubbed: self.scrubbed,
            outcome: self.outcome,
            ..Event::begun(self.time, self.exchange.as_str())
        }
    }
}

/// What the provider says of its own limit: in the fields of draft-ietf-httpapi-ratelimit-headers, and those
/// that GitHub and others made of it.
fn remaining(fields: &HeaderMap, at: Timestamp) -> Option<Remaining> {
    const PAIRS: [(&str, &str); 3] = [
        ("x-ratelimit-remaining", "x-ratelimit-limit"),
        ("ratelimit-remaining", "ratelimit-limit"),
        ("x-rate-limit-remaining", "x-rate-limit-limit"),
    ];
    let number = |name: &str| fields.get(name)?.to_str().ok()?.trim().parse().ok();
    let found = PAIRS.iter().find_map(|(left, of)| Some((number(left)?, number(of))));
    found.map(|(remaining, limit)| Remaining { remaining, limit, at })
}

/// In one piece of memory, which most targets fit in.
fn text_of(target: &Target) -> String {
    let mut text = String::with_capacity(64);
    write!(text, "{target}").expect("a String takes all that is written");
    text
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.standing().idle();
        }
        if let Some(pulse) = self.pulse.take() {
            pulse.end();
            if pulse.was_cut() && self.noted.outcome == Outcome::ClientAborted {
                self.noted.outcome = Outcome::Ended;
            }
        }
        let Some(slot) = self.slot.take() else { return };
        if let Some(tries) = &self.tries {
            self.noted.attempts += tries.made();
        }
        let target = self.noted.target.as_ref().map(text_of);
        let elapsed = self.begun.elapsed().as_millis();
        let event = Event {
            bytes_in: self.bytes_in.load(Relaxed),
            duration_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            ..self.noted.event(target.as_deref())
        };
        self.gateway.metrics.count(&event);
        self.gateway.metrics.usage.count(&self.noted.used((event.bytes_in, event.bytes_out)));
        tracing::debug!(
            exchange = event.exchange, agent = event.agent, target = event.target,
            method = event.method, rule = event.rule, status = event.status, code = event.code,
            outcome = ?event.outcome, "exchange"
        );
        slot.send(event.entry());
    }
}
