//! `keyward backup FILE`: an encrypted copy of the state in one file. A running gateway writes it while it serves.

use std::io::Write;
use std::path::PathBuf;

use http_body_util::BodyExt;
use serde::Serialize;

use super::client::{Client, streamed};
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use super::terminal::secret::{self, Typed};
use keyward_api::wire::BackupView;
use keyward_backup::StagedFile;

/// The environment variable with a passphrase, for scripts.
pub(super) const PASSPHRASE_VARIABLE: &str = "KEYWARD_BACKUP_PASSPHRASE";

pub(super) const EXAMPLES: &str = "\
In it: everything in the store, and the CA with its key. Not in it: the master
key, the configuration file and the audit log. It has every secret. The file is
in the age format: `age -d` decrypts it too.

examples:
  keyward backup keyward.age
  age-keygen -o backup.key && keyward backup keyward.age --recipient age1...
  KEYWARD_BACKUP_PASSPHRASE=... keyward backup keyward.age

Without an option, it is encrypted for the `recipients` of the configuration
(`backup:`), or with a passphrase that you type.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// the file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// an age recipient, age1..., that can open it; may be repeated
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Vec<String>,
    /// read recipients from this file, one on each line
    #[arg(long, value_name = "FILE")]
    recipients_file: Option<PathBuf>,
    /// read a passphrase from this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipient", "recipients_file"])]
    passphrase_file: Option<PathBuf>,
    /// replace an existing file
    #[arg(long)]
    force: bool,
}

/// The body of the request.
#[derive(Serialize)]
pub(super) struct BackupRequest {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recipients: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passphrase: Option<Typed>,
}

#[derive(Serialize)]
struct BackupFile {
    file: String,
    bytes: u64,
}

impl BackupRequest {
    pub(super) fn of(recipients: Vec<String>) -> Self {
        Self { recipients, passphrase: None }
    }
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let shown = self.file.display().to_string();
        self.check_place()?;
        let client = Client::open(global).await?;
        let ask = self.ask(&client).await?;
        // Before the gateway works.
        let failed =
            |error: std::io::Error| Failure::failed(&format!("cannot write {shown}"), &error);
        let mut file = StagedFile::create(&self.file).map_err(failed)?;
        let mut body = streamed(client.begin("/api/v1/backup", &ask).await?).await?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Failure::new(Exit::Failed, format!("the backup is not complete: {error}"))
                    .hint("the log of the gateway says why; nothing was written")
            })?;
            if let Ok(piece) = frame.into_data() {
                file.write_all(&piece).map_err(failed)?;
            }
        }
        let bytes = file.publish().map_err(failed)?;
        let written = BackupFile { file: shown, bytes };
        output::show(global.json, &written, |it| {
            format!("wrote {} ({} bytes)\n", it.file, it.bytes)
        })
    }

    /// The backup is renamed to its path, which would replace a link, a pipe or a device itself.
    fn check_place(&self) -> Result<(), Failure> {
        let Ok(found) = std::fs::symlink_metadata(&self.file) else { return Ok(()) };
        let shown = self.file.display();
        let refused = |message: String| Failure::new(Exit::Failed, message);
        match found.is_file() {
            true if self.force => Ok(()),
            true => {
                Err(refused(format!("{shown} exists")).hint("choose another name, or add --force"))
            }
            false => Err(refused(format!("{shown} is not a regular file: it is not replaced"))
                .hint("name a new file; to send a backup elsewhere, copy that file")),
        }
    }

    /// How it is encrypted: by options, by the variable, by the configuration, or by a prompt.
    async fn ask(&self, client: &Client) -> Result<BackupRequest, Failure> {
        let mut recipients = self.recipient.clone();
        if let Some(file) = &self.recipients_file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::failed(&format!("cannot read {}", file.display()), &error)
            })?;
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            recipients.extend(lines.map(str::to_owned));
        }
        if !recipients.is_empty() {
            return Ok(BackupRequest::of(recipients));
        }
        let passphrase = match &self.passphrase_file {
            Some(file) => Some(Typed::from_file(file)?),
            None if std::env::var_os(PASSPHRASE_VARIABLE).is_some() => {
                Some(Typed::from_variable(PASSPHRASE_VARIABLE)?)
            }
            None if self.is_configured(client).await? => None,
            None if secret::can_ask() => Some(prompted()?),
            None => {
                return Err(Failure::usage("the backup has no recipient and no passphrase").hint(
                    "add --recipient or --passphrase-file, or name `recipients` under `backup:`",
                ));
            }
        };
        Ok(BackupRequest { recipients, passphrase })
    }

    /// Whether the configuration names recipients.
    async fn is_configured(&self, client: &Client) -> Result<bool, Failure> {
        let view: BackupView = client.get("/api/v1/backup").await?;
        Ok(!view.recipients.is_empty())
    }
}

/// A passphrase, typed twice: one that was mistyped would open nothing.
fn prompted() -> Result<Typed, Failure> {
    let first = Typed::from_prompt("Passphrase")?;
    let second = Typed::from_prompt("Passphrase again")?;
    match first.text() == second.text() {
        true => Ok(first),
        false => Err(Failure::usage("the two passphrases differ")),
    }
}
