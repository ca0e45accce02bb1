//! [`ExchangeGuard`]: a running exchange. It owns the record and, until the answer ends, the agent's stream and the
//! slot within the limits of the connection.

use std::sync::Arc;
use std::time::Duration;

use crate::authorize::connection_limits::Admission;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::refusal::{Refusal, RefusalFormat};
use crate::session::{AcceptedStream, ProxySession};
use crate::sockets::watchdog::Watchdog;
use keyward_base::settings::Wait;
use keyward_rules::policy::Permit;

/// By how much a silent stream outlives the `timeout` of its connection at least, so that the agent gets the 504.
const MARGIN: Duration = Duration::from_secs(10);

/// A running exchange. It moves into the body of the answer; dropping it ends the exchange.
#[derive(Debug)]
pub struct ExchangeGuard {
    pub record: Record,
    /// The format in which a refusal is sent.
    pub format: RefusalFormat,
    pub admission: Admission,
    stream: OccupiedStream,
}

/// The agent's stream that an exchange occupies.
#[derive(Debug)]
pub enum OccupiedStream {
    /// The control plane asks.
    None,
    /// A stream without a session.
    Accepted(Arc<AcceptedStream>),
    Session(Arc<ProxySession>),
}

impl ExchangeGuard {
    /// Begins an exchange and its record. The stream is busy from now on.
    ///
    /// # Errors
    /// As [`Record::begin`].
    pub async fn begin(
        gateway: &Arc<Gateway>,
        stream: OccupiedStream,
        format: RefusalFormat,
    ) -> Result<Self, Refusal> {
        if let Some(watchdog) = stream.watchdog() {
            watchdog.begin_exchange();
        }
        let mut record = Record::begin(gateway).await.inspect_err(|_| {
            if let Some(watchdog) = stream.watchdog() {
                watchdog.end_exchange();
            }
        })?;
        if stream.is_probed() {
            // Nothing is sent.
            record.discard();
        }
        Ok(Self { record, format, admission: Admission::Pending, stream })
    }

    /// Allows silence for the `timeout` of the permit's connection, which may be longer than `body_idle_timeout`, until
    /// [`ExchangeGuard::end_wait`].
    pub fn await_answer(&self, permit: &Permit) {
        let timeout = permit.settings().and_then(|settings| settings.timeout);
        if let (Some(timeout), Some(watchdog)) =
            (timeout.map(Wait::duration), self.stream.watchdog())
        {
            watchdog.allow_silence(timeout + timeout / 4 + MARGIN);
        }
    }

    /// The head of the answer has come, or none will.
    pub fn end_wait(&self) {
        if let Some(watchdog) = self.stream.watchdog() {
            // The head: silence counts from here.
            watchdog.on_write();
            watchdog.allow_silence(Duration::ZERO);
        }
    }

    /// Adds body bytes that were sent to the agent.
    pub fn add_sent(&mut self, bytes: u64) {
        self.record.add_sent(bytes);
        if let OccupiedStream::Session(session) = &self.stream {
            session.revocation().current().add_sent(bytes);
        }
        if let Some(watchdog) = self.stream.watchdog() {
            watchdog.on_write();
        }
    }
}

impl OccupiedStream {
    fn watchdog(&self) -> Option<&Watchdog> {
        match self {
            Self::None => None,
            Self::Accepted(accepted) => Some(&accepted.watchdog),
            Self::Session(session) => Some(&session.watchdog),
        }
    }

    fn is_probed(&self) -> bool {
        match self {
            Self::None => false,
            Self::Accepted(accepted) => accepted.probed.get().is_some(),
            Self::Session(session) => session.probed().is_some(),
        }
    }
}

impl Drop for ExchangeGuard {
    /// Marks the stream idle: from now on only the agent's token can revoke it.
    fn drop(&mut self) {
        let cut_by = match &self.stream {
            OccupiedStream::Session(session) => session.revocation().end_exchange(),
            OccupiedStream::None | OccupiedStream::Accepted(_) => None,
        };
        if let Some(watchdog) = self.stream.watchdog() {
            watchdog.end_exchange();
            if watchdog.was_cut() {
                self.record.set_ended_by_gateway();
            }
        }
        if let Some(by) = cut_by {
            self.record.set_cut_by(&by);
        }
    }
}
