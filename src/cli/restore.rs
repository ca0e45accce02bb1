//! `keyward restore FILE`: replaces the state by that of a backup. It works on the files of this machine, so it needs
//! the gateway to be stopped.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::backup::PASSPHRASE_VARIABLE;
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use super::terminal::confirm::Confirm;
use super::terminal::secret::{self, Typed};
use keyward_app::config::{SecretSource, VariableSource};
use keyward_app::{Restore, RestoreError, Restored};
use keyward_backup::{AgeIdentity, BackupHeader, BackupKey, BackupReader};
use keyward_base::secret::Secret;

pub(super) const EXAMPLES: &str = "\
The whole file is checked first. The previous store is kept beside the restored
one; a database must be empty, and its replicas stopped, and keeps the CA that
the configuration names. What was revoked after the backup was made is valid
again: revoke it again. Tokens of OAuth that a provider has replaced since are
refused at the next refresh: reconnect those connections.

examples:
  keyward restore keyward.age --dry-run
  keyward restore keyward.age --identity backup.key
  keyward --data /var/lib/keyward-staging restore keyward.age --keep-ca";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// the backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// a file with age identities, as age-keygen writes it
    #[arg(short, long, value_name = "FILE", conflicts_with = "passphrase_file")]
    identity: Option<PathBuf>,
    /// read the passphrase from this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// leave the CA as it is
    #[arg(long)]
    keep_ca: bool,
    /// check the file, print what is in it and what would be replaced; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// What is in a backup, and what became of it.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    header: &'a BackupHeader,
    /// The store that is replaced.
    replaces: Option<&'a Path>,
    restored: bool,
    /// Where the store of before is now.
    kept: Option<PathBuf>,
    ca_replaced: bool,
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        global.require_local_gateway("restore")?;
        let config = global.load()?;
        let opening = self.opening()?;
        let restore = Restore::verified(&config, &self.file, opening)?;
        Box::pin(restore.check_target()).await?;
        let header = restore.header().clone();
        let replaces = restore.replaces().map(Path::to_owned);
        let mut view = View {
            header: &header,
            replaces: replaces.as_deref(),
            restored: false,
            kept: None,
            ca_replaced: false,
        };
        if !self.dry_run {
            restore.check_unused()?;
            self.ask(&view)?;
            let Restored { kept, ca_replaced } = Box::pin(restore.run(self.keep_ca)).await?;
            view = View { restored: true, kept, ca_replaced, ..view };
        }
        output::show(global.json, &view, text)?;
        if view.restored && !global.json {
            output::note(&format!(
                "note: what was revoked or removed after {:.0} is valid again: revoke it again",
                header.created
            ));
        }
        Ok(())
    }

    /// Replacing a store needs a yes, also of a script.
    fn ask(&self, view: &View<'_>) -> Result<(), Failure> {
        let Some(store) = view.replaces else { return Ok(()) };
        let shown = store.display();
        if !self.confirm.asks() && !self.confirm.is_given() {
            return Err(Failure::new(Exit::Failed, format!("there is a store at {shown}"))
                .hint("add --yes to replace it; it is kept beside the restored one"));
        }
        let loss = format!("the store at {shown} is kept under another name");
        self.confirm.ask("replace the state by that of the backup", &[loss])
    }

    fn opening(&self) -> Result<BackupKey, Failure> {
        let path = self.file.display();
        let file = File::open(&self.file)
            .map_err(|error| Failure::failed(&format!("cannot read {path}"), &error))?;
        let by_passphrase = BackupReader::is_by_passphrase(file).map_err(|error| {
            Failure::new(Exit::Failed, format!("{path} cannot be restored: {error}"))
        })?;
        if let Some(identity) = &self.identity {
            return identities(identity).map(BackupKey::Identities);
        }
        if !by_passphrase {
            return Err(Failure::usage(format!("{path} is encrypted for recipients"))
                .hint("add --identity FILE, with the identity of one of them"));
        }
        let typed = match &self.passphrase_file {
            Some(file) => Typed::from_file(file)?,
            None if std::env::var_os(PASSPHRASE_VARIABLE).is_some() => {
                Typed::from_variable(PASSPHRASE_VARIABLE)?
            }
            None if secret::can_ask() => Typed::from_prompt("Passphrase")?,
            None => {
                return Err(Failure::usage(format!("{path} is encrypted with a passphrase"))
                    .hint("add --passphrase-file FILE"));
            }
        };
        Ok(BackupKey::Passphrase(Secret::new(typed.text())))
    }
}

/// The identities of a private file.
fn identities(path: &Path) -> Result<Vec<AgeIdentity>, Failure> {
    let source = SecretSource::File(path.to_owned());
    let text = source
        .load(&VariableSource::Process, &[])
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    AgeIdentity::all_of(&text)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))
}

fn text(view: &View<'_>) -> String {
    let BackupHeader { keyward, created, rows, .. } = view.header;
    let mut text = format!("backup of {created:.0}, by keyward {keyward}\n");
    let rows: Vec<_> = rows.iter().map(|(table, count)| format!("{table} {count}")).collect();
    text.push_str(&format!("rows: {}\n", rows.join(", ")));
    match (view.restored, view.replaces, &view.kept) {
        (false, Some(store), _) => {
            text.push_str(&format!("would replace the store at {}\n", store.display()));
        }
        (false, None, _) => text.push_str("there is no store that it would replace\n"),
        (true, _, Some(kept)) => {
            text.push_str(&format!("restored; the previous store is {}\n", kept.display()));
        }
        (true, _, None) => text.push_str("restored\n"),
    }
    if view.ca_replaced {
        text.push_str("the CA is now that of the backup: agents must trust it\n");
    }
    text
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        let hint = error.hint();
        let failure = Self::new(Exit::Failed, error.to_string());
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
