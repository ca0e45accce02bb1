//! `/backup`: an encrypted copy of the state, as a download. `keyward_backup` defines its content and format.
//! `/store/check`: all rows and indexes of the store are verified while the gateway serves; nothing is changed.
//!
//! A backup contains every secret. So only the operator, who can read the store and its key anyway, chooses the
//! recipients; users get a backup for the recipients in the configuration.

use std::io::{self, Write};
use std::time::Duration;

use axum::Json;
use axum::body::Body as Answer;
use axum::extract::State;
use bytes::Bytes;
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::openapi::{Download, Routes};
use super::state::Admin;
use super::wire::{BackupOptions, BackupView, ScheduledBackup, StoreCheckView};
use keyward_backup::{
    BackupSettings, BegunBackup, Encryption, Recipient, WriteError, WrittenBackup, file_name,
};
use keyward_model::in_days;
use keyward_state::directory::{OpenedRow, View};

/// Pieces of a backup that wait for a slow client.
const PIECES_MAX: usize = 4;

/// Bytes of a passphrase: four short words. Who has the file may guess without a limit.
const PASSPHRASE_BYTES_MIN: usize = 16;

/// How long a client may read nothing: other backups wait for this one.
const STALL_MAX: Duration = Duration::from_secs(60);

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/backup", ["getBackup", "Show the schedule of backups, and the last one"], show)
        .post("/backup", ["backUp", "Download an encrypted backup of the state"], download)
}

async fn show(State(admin): State<Admin>) -> Json<BackupView> {
    let backups = &admin.deps().backups;
    let (settings, scheduled) = (backups.settings(), backups.scheduled());
    let schedule = settings.schedule.as_ref();
    let (failed, failure) = scheduled.failure.unzip();
    Json(BackupView {
        recipients: settings.recipients.iter().map(ToString::to_string).collect(),
        every: schedule.map(|it| in_days(it.every)),
        to: schedule.map(|it| it.to.display().to_string()),
        keep: schedule.map(|it| it.keep),
        last: scheduled.last.map(|WrittenBackup { file, created, bytes }| ScheduledBackup {
            file,
            created,
            bytes,
        }),
        failed,
        failure,
    })
}

async fn download(
    State(admin): State<Admin>,
    caller: Caller,
    asked: Option<Body<BackupOptions>>,
) -> Result<Download, ApiError> {
    let asked = asked.map(|Body(asked)| asked).unwrap_or_default();
    let backups = &admin.deps().backups;
    let encryption = encryption(&caller, asked, &backups.settings())?;
    caller.because(match &encryption {
        Encryption::Passphrase(_) => "with a passphrase".to_owned(),
        Encryption::Recipients(all) => {
            let all: Vec<_> = all.iter().map(ToString::to_string).collect();
            format!("for {}", all.join(", "))
        }
    });
    let begun = backups.begin().await.map_err(refusal)?;
    let name = file_name(begun.created());
    Ok(Download::new(&name, body(begun, encryption)))
}

/// How it is encrypted.
fn encryption(
    caller: &Caller,
    asked: BackupOptions,
    settings: &BackupSettings,
) -> Result<Encryption, ApiError> {
    let BackupOptions { recipients, passphrase } = asked;
    let chooses = !recipients.is_empty() || passphrase.is_some();
    if chooses && !caller.is_operator() {
        let hint = "name recipients under `backup:` of the configuration, or run `keyward backup` where the gateway runs";
        return Err(ApiError::refused("only the operator chooses who can open a backup").hint(hint));
    }
    match (passphrase, recipients.is_empty()) {
        (Some(_), false) => Err(ApiError::field("passphrase", "contradicts `recipients`")),
        (Some(text), true) if text.0.len() < PASSPHRASE_BYTES_MIN => {
            let message = format!("has fewer than {PASSPHRASE_BYTES_MIN} characters");
            Err(ApiError::field("passphrase", message).hint("use four random words or more"))
        }
        (Some(text), true) => Ok(Encryption::Passphrase(text.0)),
        (None, false) => {
            let parsed = recipients.iter().map(|text| text.parse::<Recipient>());
            let parsed = parsed.collect::<Result<Vec<_>, _>>();
            let refused = |error| ApiError::field("recipients", format!("{error}"));
            parsed.map(Encryption::Recipients).map_err(refused)
        }
        (None, true) if settings.recipients.is_empty() => {
            Err(ApiError::refused("a backup needs recipients or a passphrase")
                .hint("name recipients under `backup:` of the configuration"))
        }
        (None, true) => Ok(Encryption::Recipients(settings.recipients.clone())),
    }
}

fn refusal(error: WriteError) -> ApiError {
    match error {
        WriteError::Interrupted => ApiError::Draining,
        // The row or file that cannot be read is named: the operator must look.
        WriteError::Row(_) | WriteError::Part(_) => ApiError::refused(error.to_string()),
        WriteError::Io(error) => ApiError::internal(error),
    }
}

/// The encrypted bytes, written on a thread that may block while the client reads.
fn body(begun: BegunBackup, encryption: Encryption) -> Answer {
    let (pieces, mut taken) = mpsc::channel(PIECES_MAX);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = begun.write(&encryption, Pieces(pieces.clone(), Handle::current())) {
            tracing::warn!(%error, "the download of a backup was interrupted");
            // Ends the answer without its last chunk, so that the client sees that it is not whole.
            let _ = pieces.blocking_send(Err(io::Error::other(error)));
        }
    });
    Answer::from_stream(stream::poll_fn(move |context| taken.poll_recv(context)))
}

/// Passes what is written to the answer.
struct Pieces(mpsc::Sender<io::Result<Bytes>>, Handle);

impl Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let sending = self.0.send_timeout(Ok(Bytes::copy_from_slice(piece)), STALL_MAX);
        match self.1.block_on(sending) {
            Ok(()) => Ok(piece.len()),
            Err(SendTimeoutError::Timeout(_)) => Err(io::ErrorKind::TimedOut.into()),
            Err(SendTimeoutError::Closed(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn store_check_routes() -> Routes {
    Routes::new().post(
        "/store/check",
        ["checkStore", "Verify all rows and indexes of the store"],
        check,
    )
}

/// One at a time: each has all rows in memory.
async fn check(State(admin): State<Admin>) -> Result<Json<StoreCheckView>, ApiError> {
    let Ok(_turn) = admin.store_checks().try_lock() else {
        return Err(ApiError::refused("the store is being checked already")
            .hint("try again when that check has ended"));
    };
    Ok(Json(admin.deps().directory.check_store(check_content).await?.into()))
}

/// Decodes rows that are no records of the directory: `Err` says what is wrong with one.
///
/// # Errors
/// With what is wrong.
pub fn check_content(view: &View, row: &OpenedRow) -> Result<(), String> {
    keyward_vault::check_content(view, row)?;
    keyward_vault::events::check_content(row)?;
    keyward_vault::oauth::check_content(row)?;
    keyward_inbox::check_content(row)
}
