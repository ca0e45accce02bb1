//! [`Record`]: the guard that leaves exactly one audit event for an exchange, however it ends. It
//! moves into the body of the answer and sends its event when that is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::Method;
use tokio::time::Instant;

use super::error::Refusal;
use super::pulse::Pulse;
use super::session::Session;
use super::{Gateway, answer::Sent, inbound::Inbound, respond};
use crate::base::agent::Agent;
use crate::base::host::Target;
use crate::base::id::{ExchangeId, OrgId};
use crate::inject::credential::Credential;
use crate::inject::scrub::Fault;
use crate::observe::audit::Slot;
use crate::observe::event::{Event, Outcome};
use crate::policy::Permit;

/// The audit event of an exchange in the making.
#[derive(Debug)]
pub struct Record {
    slot: Option<Slot>,
    event: Event,
    begun: Instant,
    bytes_in: Arc<AtomicU64>,
    gateway: Arc<Gateway>,
    pulse: Option<Arc<Pulse>>,
    session: Option<Arc<Session>>,
}

impl Record {
    /// Begins a record; waits for a slot of the audit log, so that the event can be sent for sure.
    ///
    /// # Errors
    /// While the audit log cannot be written: no exchange without its record.
    pub async fn begin(gateway: &Arc<Gateway>) -> Result<Self, Refusal> {
        let slot = gateway.audit.reserve().await.map_err(|_| Refusal::AuditUnavailable)?;
        let event = Event::begun(gateway.clock.now(), ExchangeId::random().to_string());
        Ok(Self {
            slot: Some(slot),
            event,
            begun: Instant::now(),
            bytes_in: Arc::default(),
            gateway: gateway.clone(),
            pulse: None,
            session: None,
        })
    }

    /// The exchange's id.
    pub fn exchange(&self) -> &str {
        &self.event.exchange
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

    /// Who asks.
    pub fn asked_by(&mut self, agent: &Agent) {
        self.event.org = Some(agent.org.to_string());
        self.event.agent = Some(agent.name.to_string());
        self.event.token = agent.token.as_ref().map(ToString::to_string);
    }

    /// No agent asks: the owner of a connection tests it.
    pub fn asked_by_owner(&mut self, org: &OrgId) {
        self.event.org = Some(org.to_string());
    }

    /// What the first line says.
    pub fn asked_for(&mut self, method: &Method, target: Option<&Target>, path: Option<&str>) {
        self.event.method = Some(method.to_string());
        self.event.target = target.map(Target::to_string);
        self.event.path = path.map(ToOwned::to_owned);
    }

    /// Where it goes, before the request is parsed.
    pub fn at(&mut self, target: Option<&Target>) {
        self.event.target = target.map(Target::to_string);
    }

    /// Leaves no event: the CONNECT of an intercepted tunnel, whose requests are the exchanges.
    pub fn discard(mut self) {
        self.slot = None;
    }

    /// The parsed request.
    pub fn parsed(&mut self, inbound: &Inbound) {
        self.event.target = Some(inbound.target().to_string());
        self.event.path = Some(inbound.path().to_owned());
        self.bytes_in = inbound.body.count();
    }

    /// What policy said.
    pub fn permitted(&mut self, permit: &Permit) {
        self.event.rule = Some(permit.rule().to_string());
        self.event.connection = permit.wanted().map(|wanted| wanted.name.to_string());
    }

    /// The rule of a tunnel.
    pub fn tunnelled(&mut self, rule: &crate::base::id::RuleId) {
        self.event.rule = Some(rule.to_string());
    }

    /// Which generation of the credential goes out.
    pub fn injected(&mut self, credential: Option<&Credential>) {
        self.event.generation = credential.map(|credential| credential.generation);
    }

    /// The upstream answered.
    pub fn answered(&mut self, sent: &Sent) {
        self.event.status = Some(sent.status().as_u16());
    }

    /// A status of ours that is no refusal: the 200 of a tunnel.
    pub fn opened(&mut self) {
        self.event.status = Some(200);
    }

    /// Keyward answered itself.
    pub fn refused(&mut self, status: u16, code: &str) {
        self.event.status = Some(status);
        self.event.code = Some(code.to_owned());
        self.event.outcome = Outcome::Refused;
    }

    /// So many needles were masked.
    pub fn masked(&mut self, count: u64) {
        self.event.scrubbed += count;
    }

    /// The answer's body was cut: it must not go on.
    pub fn cut(&mut self, fault: Fault) {
        tracing::info!(exchange = self.event.exchange, error = %fault, "an answer was cut");
        self.event.code = Some(respond::code(fault).to_owned());
        self.ended(Outcome::Refused);
    }

    /// Body bytes went to the agent.
    pub fn sent(&mut self, bytes: u64) {
        self.event.bytes_out += bytes;
        if let Some(pulse) = &self.pulse {
            pulse.wrote();
        }
    }

    /// How it ended, unless it was refused.
    pub fn ended(&mut self, outcome: Outcome) {
        if self.event.outcome != Outcome::Refused {
            self.event.outcome = outcome;
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.standing().idle();
        }
        if let Some(pulse) = self.pulse.take() {
            pulse.end();
            if pulse.was_cut() && self.event.outcome == Outcome::ClientAborted {
                self.event.outcome = Outcome::Ended;
            }
        }
        let Some(slot) = self.slot.take() else { return };
        self.event.bytes_in = self.bytes_in.load(Relaxed);
        let elapsed = self.begun.elapsed().as_millis();
        self.event.duration_ms = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let blank = Event::begun(self.event.time, String::new());
        let event = std::mem::replace(&mut self.event, blank);
        self.gateway.metrics.count(&event);
        tracing::debug!(
            exchange = event.exchange, agent = event.agent, target = event.target,
            method = event.method, rule = event.rule, status = event.status, code = event.code,
            outcome = ?event.outcome, "exchange"
        );
        slot.send(event);
    }
}
