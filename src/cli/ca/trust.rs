//! `keyward ca trust`: adds the CA to the trust store of a Debian-like system, and removes it.
//!
//! It writes one file per certificate into `/usr/local/share/ca-certificates` and runs
//! `update-ca-certificates`. It prints what it will do before it does it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde::Serialize;

use crate::cli::failure::{Exit, Failure};
use crate::cli::files::CERTIFICATE_MODE;
use crate::cli::files::replace_file;
use crate::cli::output;
use crate::cli::settings::Global;
use keyward_api::wire::CaView;

pub(super) const HELP: &str = "\
Programs that use the system's store then trust the gateway's CA: anyone with
its key can intercept their TLS. `keyward run` and `keyward env` set the CA for
single programs, without this command.

examples:
  sudo keyward --data ~/.local/share/keyward ca trust
  keyward ca trust --dry-run
  keyward ca trust --root ./image                   # of an unpacked image";

/// The directory of local certificates, below the root.
const LOCAL: &str = "usr/local/share/ca-certificates";

const UPDATE: &str = "update-ca-certificates";

#[derive(Debug, Args)]
pub(crate) struct Trust {
    /// remove the CA from the trust store
    #[arg(long)]
    remove: bool,
    /// print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// the system's root directory, such as the unpacked root of an image
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// The planned changes.
#[derive(Debug, Serialize)]
struct TrustPlan {
    /// Whether files are removed; else they are written.
    remove: bool,
    dry_run: bool,
    /// Whether no change was needed.
    unchanged: bool,
    files: Vec<PathBuf>,
    command: Vec<String>,
    #[serde(skip)]
    contents: Vec<String>,
}

impl Trust {
    pub(super) fn run(&self, global: &Global, ca: &CaView) -> Result<(), Failure> {
        let program = program().ok_or_else(no_program)?;
        // The program runs in another directory.
        let root = std::path::absolute(&self.root)
            .map_err(|error| Failure::failed(&self.root.display().to_string(), &error))?;
        let mut plan = self.plan(ca, &program, &root);
        if !plan.unchanged {
            output::note(&plan.told(ca));
        }
        if !self.dry_run && !plan.unchanged {
            self.may()?;
            plan.carry_out()?;
        }
        plan.dry_run = self.dry_run;
        output::show(global.json, &plan, TrustPlan::done)
    }

    fn plan(&self, ca: &CaView, program: &Path, root: &Path) -> TrustPlan {
        let folder = root.join(LOCAL);
        let named = ca.certificates.iter().zip(certificates(&ca.pem));
        let all = named.map(|(about, pem)| {
            let hex: String = about.fingerprint.chars().filter(char::is_ascii_hexdigit).collect();
            let short = hex.get(..16).unwrap_or(&hex).to_ascii_lowercase();
            (folder.join(format!("keyward-{short}.crt")), pem)
        });
        let is_there = |file: &Path, pem: &str| fs::read_to_string(file).is_ok_and(|it| it == pem);
        // Files that exist are removed; files that differ are written.
        let changes = all.filter(|(file, pem)| match self.remove {
            true => file.exists(),
            false => !is_there(file, pem),
        });
        let (files, contents): (Vec<_>, Vec<_>) = changes.unzip();
        TrustPlan {
            remove: self.remove,
            dry_run: false,
            unchanged: files.is_empty(),
            files,
            command: self.command(program, root),
            contents,
        }
    }

    fn command(&self, program: &Path, root: &Path) -> Vec<String> {
        let mut command = vec![program.display().to_string()];
        // Without it, hashes of removed files would stay.
        command.extend(self.remove.then(|| "--fresh".to_owned()));
        if root != Path::new("/") {
            for (option, at) in [
                ("--certsconf", "etc/ca-certificates.conf"),
                ("--certsdir", "usr/share/ca-certificates"),
                ("--localcertsdir", LOCAL),
                ("--etccertsdir", "etc/ssl/certs"),
                ("--hooksdir", "etc/ca-certificates/update.d"),
            ] {
                command.extend([option.to_owned(), root.join(at).display().to_string()]);
            }
        }
        command
    }

    /// Only root can change the system's own store.
    fn may(&self) -> Result<(), Failure> {
        if self.root != Path::new("/") || rustix::process::geteuid().is_root() {
            return Ok(());
        }
        Err(Failure::new(Exit::Forbidden, "only root can change the system's trust store")
            .hint("use sudo and --data DIR, or give the CA to single programs: keyward run"))
    }
}

impl TrustPlan {
    fn told(&self, ca: &CaView) -> String {
        let (does, means) = match self.remove {
            true => (
                "removes",
                "programs that use the system's store no longer trust this CA".to_owned(),
            ),
            false => (
                "writes",
                format!(
                    "every program that uses the system's store will trust this CA, sha256\n  {}",
                    ca.fingerprint
                ),
            ),
        };
        let files = self.files.iter().map(|file| format!("  {does} {}\n", file.display()));
        format!("{}  runs {}\n{means}", files.collect::<String>(), self.command.join(" "))
    }

    /// Applies all changes or none: if the certificates are not in the store afterwards, the files are removed.
    fn carry_out(&self) -> Result<(), Failure> {
        let mut before = Vec::new();
        for (file, pem) in self.files.iter().zip(&self.contents) {
            let failed = |error: io::Error| {
                Failure::failed(&format!("cannot change {}", file.display()), &error)
            };
            before.push((file, fs::read(file).ok()));
            match self.remove {
                true => fs::remove_file(file).map_err(failed)?,
                false => {
                    if let Some(folder) = file.parent() {
                        fs::create_dir_all(folder).map_err(failed)?;
                    }
                    replace_file(file, pem.as_bytes(), CERTIFICATE_MODE).map_err(failed)?;
                }
            }
        }
        self.update().inspect_err(|_| {
            for (file, content) in before {
                let back = match content {
                    Some(content) => replace_file(file, &content, CERTIFICATE_MODE),
                    None => fs::remove_file(file),
                };
                if let Err(error) = back {
                    output::note(&format!("warning: {} was not restored: {error}", file.display()));
                }
            }
        })
    }

    fn update(&self) -> Result<(), Failure> {
        let (program, arguments) = self.command.split_first().ok_or_else(no_program)?;
        let output = Command::new(program).args(arguments).output();
        let output = output.map_err(|error| Failure::failed(program, &error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it printed nothing").to_owned();
        Err(Failure::new(Exit::Failed, format!("{UPDATE} failed: {last}"))
            .hint("nothing was changed; run the command by hand to see its output"))
    }

    fn done(&self) -> String {
        match (self.unchanged, self.dry_run, self.remove) {
            (true, _, true) => "the system's store does not have this CA\n".to_owned(),
            (true, _, false) => "the system's store already has this CA\n".to_owned(),
            (false, true, _) => "nothing was changed\n".to_owned(),
            (false, false, true) => "the CA is removed from the system's store\n".to_owned(),
            (false, false, false) => {
                "the CA is in the system's store; programs that are already running may need a restart\n"
                    .to_owned()
            }
        }
    }
}

/// The command is in a directory that is not in every user's PATH.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(UPDATE)).find(|program| program.is_file())
}

fn no_program() -> Failure {
    Failure::new(Exit::Failed, format!("{UPDATE} was not found: this is not a Debian-like system")).hint(
        "install ca-certificates, or add the output of `keyward ca show` to this system's trust store",
    )
}

/// Splits a PEM text into its certificates.
fn certificates(pem: &str) -> impl Iterator<Item = String> + '_ {
    const END: &str = "-----END CERTIFICATE-----\n";
    pem.split_inclusive(END).filter(|text| text.ends_with(END)).filter_map(|text| {
        let begin = text.find("-----BEGIN CERTIFICATE-----")?;
        Some(text[begin..].to_owned())
    })
}
