//! `keyward run --verbose`: a line on standard error for each request of the run, as it ends.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::cli::audit::follow::Followed;
use crate::cli::audit::line;
use crate::cli::client::Client;
use crate::cli::output;

/// How long to wait for further lines when the program has ended: records are written in batches.
const REST_WITHIN: Duration = Duration::from_millis(150);

/// Longest wait for them.
const END_WITHIN: Duration = Duration::from_secs(2);

/// The lines of one run.
pub(super) struct Verbose {
    printing: JoinHandle<Followed>,
    ended: tokio::sync::oneshot::Sender<()>,
}

impl Verbose {
    /// Begins before the program does. `None` when the gateway does not answer.
    pub(super) async fn begin(client: &Client, token: &str) -> Option<Self> {
        let mut followed = match Followed::begin(client, Some(token)).await {
            Ok(followed) => followed,
            Err(failure) => {
                output::note(&format!("note: requests are not shown\n{failure}"));
                return None;
            }
        };
        let (ended, mut end) = tokio::sync::oneshot::channel();
        let printing = tokio::spawn(async move {
            loop {
                tokio::select! {
                    record = followed.next() => match record {
                        Some(record) => show(&record),
                        None => return followed,
                    },
                    _ = &mut end => return followed,
                }
            }
        });
        Some(Self { printing, ended })
    }

    /// Prints what is written shortly after the program has ended.
    pub(super) async fn end(self) {
        drop(self.ended);
        let rest = async {
            let Ok(mut followed) = self.printing.await else { return };
            while let Ok(Some(record)) = tokio::time::timeout(REST_WITHIN, followed.next()).await {
                show(&record);
            }
        };
        drop(tokio::time::timeout(END_WITHIN, rest).await);
    }
}

fn show(record: &keyward_api::wire::Event) {
    if let Some(line) = line::of(record, output::colours_of_notes()) {
        output::note(line.trim_end());
    }
}
