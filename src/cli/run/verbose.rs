//! `keyward run --verbose`: a line on standard error for each request of the run, as it ends, also at a gateway
//! that was restarted meanwhile.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::gateway::RunGateway;
use crate::cli::audit::follow::Followed;
use crate::cli::audit::show;
use crate::cli::failure::Failure;
use crate::cli::output;
use keyward_api::wire::Event;

/// How long to wait for further lines when the program has ended: records are written in batches.
const REST_WITHIN: Duration = Duration::from_millis(150);

/// Longest wait for them.
const END_WITHIN: Duration = Duration::from_secs(2);

/// How often a gateway is looked for that has stopped.
const AGAIN_EVERY: Duration = Duration::from_millis(100);

/// The lines of one run.
pub(super) struct Verbose {
    printing: JoinHandle<RunRequests>,
    ended: tokio::sync::oneshot::Sender<()>,
}

/// The requests of a run, over all gateways that it has.
struct RunRequests {
    gateway: RunGateway,
    /// The id of the run's token.
    token: String,
    /// `None` while no gateway is followed.
    followed: Option<Followed>,
    /// The number of the last record.
    last: Option<u64>,
}

impl RunRequests {
    async fn follow(&mut self) -> Result<(), Failure> {
        let client = self.gateway.client().await?;
        let followed = Followed::begin_after(&client, Some(&self.token), self.last).await?;
        self.followed = Some(followed);
        Ok(())
    }

    /// The next record. Cancelling this loses none.
    async fn next(&mut self) -> Event {
        loop {
            if let Some(followed) = &mut self.followed {
                if let Some(record) = followed.next().await {
                    self.last = Some(record.seq);
                    return record;
                }
                self.followed = None;
            }
            tokio::time::sleep(AGAIN_EVERY).await;
            if let Err(failure) = self.follow().await {
                tracing::debug!(error = %failure, "the requests of the run cannot be followed");
            }
        }
    }
}

impl Verbose {
    /// Begins before the program does. `None` when the gateway does not answer.
    pub(super) async fn begin(gateway: &RunGateway, token: &str) -> Option<Self> {
        let (gateway, token) = (gateway.clone(), token.to_owned());
        let mut requests = RunRequests { gateway, token, followed: None, last: None };
        if let Err(failure) = requests.follow().await {
            output::note(&format!("note: requests are not shown\n{failure}"));
            return None;
        }
        let (ended, mut end) = tokio::sync::oneshot::channel();
        let printing = tokio::spawn(async move {
            loop {
                tokio::select! {
                    record = requests.next() => show(&record),
                    _ = &mut end => return requests,
                }
            }
        });
        Some(Self { printing, ended })
    }

    /// Prints what is written shortly after the program has ended.
    pub(super) async fn end(self) {
        drop(self.ended);
        let rest = async {
            let Ok(mut requests) = self.printing.await else { return };
            while let Ok(record) = tokio::time::timeout(REST_WITHIN, requests.next()).await {
                show(&record);
            }
        };
        drop(tokio::time::timeout(END_WITHIN, rest).await);
    }
}

fn show(record: &Event) {
    if let Some(line) = show::request_line(record, output::colours_of_notes()) {
        output::note(line.trim_end());
    }
}
