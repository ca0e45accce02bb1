//! [`Interim`] handles interim (1xx) answers: `100 Continue` opens the gate of the request's body, and the others are passed
//! on, without the credential, as many as the limit allows.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{HeaderMap, Response, StatusCode, header};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::body::expect_continue::ContinueGate;
use crate::sockets::watchdog::Watchdog;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::scrub;
use keyward_rules::inject::strip;

/// The time in which so many may come. Servers send them for as long as they work on a request.
const PERIOD: Duration = Duration::from_secs(10);

/// The length of the fields of all that are passed on within a period. The others are discarded.
const BYTES_MAX: usize = 64 * 1024;

/// The interim answers to one request.
#[derive(Debug)]
pub struct Interim {
    gate: Option<Arc<ContinueGate>>,
    /// How many may come within a period.
    max: usize,
    period: Mutex<Option<Period>>,
    /// The agent's stream, where they are passed on.
    agent: Option<Arc<Watchdog>>,
    /// What they must not contain.
    credential: Option<Arc<Credential>>,
    is_flood: AtomicBool,
    came: AtomicWaker,
}

/// What came within the present period.
#[derive(Debug)]
struct Period {
    begun: Instant,
    count: usize,
    bytes: usize,
}

impl Interim {
    /// Allows at most `max` interim answers within a period.
    pub fn new(
        gate: Option<Arc<ContinueGate>>,
        max: usize,
        agent: Option<Arc<Watchdog>>,
        credential: Option<Arc<Credential>>,
    ) -> Arc<Self> {
        let (period, is_flood, came) =
            (Mutex::default(), AtomicBool::new(false), AtomicWaker::new());
        Arc::new(Self { gate, max, period, agent, credential, is_flood, came })
    }

    /// The gate that `100 Continue` opens.
    pub fn gate(&self) -> Option<Arc<ContinueGate>> {
        self.gate.clone()
    }

    pub fn on_answer(&self, status: StatusCode, fields: &HeaderMap) {
        let mut period = self.period.lock();
        let period = match &mut *period {
            Some(period) if period.begun.elapsed() < PERIOD => period,
            other => other.insert(Period { begun: Instant::now(), count: 0, bytes: 0 }),
        };
        period.count += 1;
        period.bytes +=
            fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
        if period.count > self.max {
            self.is_flood.store(true, SeqCst);
        }
        match (status, &self.gate, &self.agent) {
            (StatusCode::CONTINUE, Some(gate), _) => gate.open(),
            (StatusCode::SWITCHING_PROTOCOLS, ..) => {}
            (_, _, Some(agent)) if period.count <= self.max && period.bytes <= BYTES_MAX => {
                agent.interim.add(self.passed(status, fields));
            }
            _ => {}
        }
        self.came.wake();
    }

    /// Resolves when there were too many interim answers. Is woken by each, so that the agent's stream sends it.
    pub async fn flooded(&self) {
        poll_fn(|cx| {
            self.came.register(cx.waker());
            if self.is_flood.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The answer as the agent gets it. It has no content, whatever it says (RFC 9110 §8.6).
    fn passed(&self, status: StatusCode, fields: &HeaderMap) -> Response<()> {
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        let passed = answer.headers_mut();
        passed.clone_from(fields);
        strip::answer(passed);
        passed.remove(header::CONTENT_LENGTH);
        if let Some(credential) = &self.credential {
            scrub::fields::mask(&credential.needles, passed);
        }
        answer
    }
}
