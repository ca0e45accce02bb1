//! [`StatementLog`]: one audit record for each statement of a session with a database, where the connection asks for that. A
//! statement is sent to the server when its record is in the queue of the log.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use keyward_base::codes::Code;
use keyward_base::time::Clock;
use keyward_state::observe::audit::{Audit, AuditSlot, AuditUnavailable};
use keyward_state::observe::event::{AuditEntry, Event, Outcome};

type Reserving = Pin<Box<dyn Future<Output = Result<AuditSlot, AuditUnavailable>> + Send>>;

/// Records the statements of one session.
pub struct StatementLog {
    audit: Audit,
    clock: Clock,
    /// What all records of the session have.
    event: Event,
    waiting: VecDeque<AuditEntry>,
    /// The place of the next record in the queue.
    reserving: Option<Reserving>,
}

impl StatementLog {
    /// `event`: what all records have.
    pub(super) fn new(audit: Audit, clock: Clock, event: Event) -> Self {
        Self { audit, clock, event, waiting: VecDeque::new(), reserving: None }
    }

    /// Adds a statement, without its literals. One that is passed on is recorded as completed, whatever the server answers.
    pub fn add(&mut self, statement: String, is_refused: bool) {
        let (outcome, code) = match is_refused {
            true => (Outcome::Refused, Some(Code::Denied.as_str().to_owned())),
            false => (Outcome::Completed, None),
        };
        let time = self.clock.now();
        let statement = Some(statement);
        let event = Event { time, outcome, code, statement, ..self.event.clone() };
        self.waiting.push_back(event.entry());
    }

    /// Waits until all records are in the queue.
    ///
    /// # Errors
    /// When the log cannot be written: then the session must end.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let audit = &self.audit;
            let reserving = self.reserving.get_or_insert_with(|| {
                let audit = audit.clone();
                Box::pin(async move { audit.reserve().await })
            });
            let slot = ready!(reserving.as_mut().poll(cx));
            self.reserving = None;
            let slot = slot.map_err(io::Error::other)?;
            if let Some(entry) = self.waiting.pop_front() {
                slot.send(entry);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for StatementLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementLog").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}
