//! `keyward service`: installs the gateway as a service of systemd or launchd. The unit of a system is that of
//! `deploy/keyward.service`, with the paths of this installation.

mod unit;

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::{fs, io};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::files::own_program;
use super::output;
use super::settings::Global;
use unit::{LABEL, property_list, system_unit, user_unit};

/// The configuration and the state of a service of the system.
const SYSTEM_CONFIG: &str = "/etc/keyward/keyward.yaml";
const SYSTEM_DATA: &str = "/var/lib/keyward";

/// What `ProtectHome=` of the unit hides.
const HIDDEN: [&str; 3] = ["/home", "/root", "/run/user"];

const UNIT: &str = "keyward.service";

const EXAMPLES: &str = "\
As root a service of the system is installed, otherwise one of this user, with
systemd or (on macOS) launchd. It starts now and at each start of the machine. A
credential is a file that only root may read; systemd copies it for the service,
and the configuration names it by:
  { command: [/usr/bin/cat, /run/credentials/keyward.service/NAME] }

examples:
  keyward service install
  keyward service install --credential master.key=/etc/keyward/master.key
  keyward service install --print";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// write the service's file, enable the service and start it
    #[command(after_help = EXAMPLES)]
    Install(Install),
    /// stop the service and remove its file; data and configuration stay
    Uninstall(Placed),
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    #[command(flatten)]
    placed: Placed,
    /// a file that systemd gives to the service; may be given several times
    #[arg(long, value_name = "NAME=FILE", value_parser = super::resource::pair)]
    credential: Vec<(String, String)>,
    /// print the file and change nothing
    #[arg(long)]
    print: bool,
    /// write the file, but neither enable nor start the service
    #[arg(long)]
    no_start: bool,
    /// replace a file with other content, and restart the service
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Placed {
    /// a service of this user; the default unless root runs the command
    #[arg(long, conflicts_with = "system")]
    user: bool,
    /// a service of the system; the default if root runs the command
    #[arg(long)]
    system: bool,
    /// service manager; default: launchd on macOS, else systemd
    #[arg(long, value_enum)]
    manager: Option<ServiceManagerKind>,
    /// write below this directory, for images and packages; starts nothing
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ServiceManagerKind {
    Systemd,
    Launchd,
}

/// A service, and where its file is.
#[derive(Debug)]
struct ServiceFile {
    manager: ServiceManagerKind,
    is_system: bool,
    file: PathBuf,
    /// Whether the file is for this machine, which can start the service.
    is_here: bool,
}

#[derive(Debug, Serialize)]
struct InstalledService {
    file: PathBuf,
    started: bool,
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Install(install) => install.run(global),
            Self::Uninstall(placed) => uninstall(global, &placed.service()?),
        }
    }
}

impl Placed {
    fn service(&self) -> Result<ServiceFile, Failure> {
        let is_system = self.system || (!self.user && rustix::process::geteuid().is_root());
        let manager = self.manager.unwrap_or(match cfg!(target_os = "macos") {
            true => ServiceManagerKind::Launchd,
            false => ServiceManagerKind::Systemd,
        });
        let folder = match (manager, is_system) {
            (ServiceManagerKind::Systemd, true) => PathBuf::from("/etc/systemd/system"),
            (ServiceManagerKind::Systemd, false) => match variable("XDG_CONFIG_HOME") {
                Some(folder) => folder.join("systemd/user"),
                None => home()?.join(".config/systemd/user"),
            },
            (ServiceManagerKind::Launchd, true) => PathBuf::from("/Library/LaunchDaemons"),
            (ServiceManagerKind::Launchd, false) => home()?.join("Library/LaunchAgents"),
        };
        let folder = match &self.root {
            Some(root) => root.join(folder.strip_prefix("/").unwrap_or(&folder)),
            None => folder,
        };
        let name = match manager {
            ServiceManagerKind::Systemd => UNIT.to_owned(),
            ServiceManagerKind::Launchd => format!("{LABEL}.plist"),
        };
        Ok(ServiceFile {
            manager,
            is_system,
            file: folder.join(name),
            is_here: self.root.is_none(),
        })
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn home() -> Result<PathBuf, Failure> {
    variable("HOME").ok_or_else(|| {
        Failure::usage("there is no home directory for a service of this user")
            .hint("set HOME, or install a service of the system with --system")
    })
}

impl Install {
    fn run(&self, global: &Global) -> Result<(), Failure> {
        let service = self.placed.service()?;
        if service.manager == ServiceManagerKind::Launchd && !self.credential.is_empty() {
            return Err(Failure::usage("launchd has no credentials")
                .hint("omit --credential, and name the file in the configuration"));
        }
        let start = service.start(global)?;
        let text = service.text(&start.words, &self.credentials(service.is_here)?);
        if self.print {
            return output::print(&text);
        }
        start.can_run(&service)?;
        let action = action(&service.file, &text, self.force)?;
        if action != FileAction::Nothing {
            write(&service.file, &text).map_err(|error| cannot("write", &service.file, &error))?;
        }
        if start.has_no_config {
            output::note(&format!(
                "note: there is no {SYSTEM_CONFIG}: the service starts without one; once it exists, \
                 run this command again with --force"
            ));
        }
        self.finish(global, &service, action)
    }

    /// The credentials with absolute paths: systemd takes another path for the name of a credential of its own, and goes on
    /// without it.
    fn credentials(&self, is_here: bool) -> Result<Vec<(String, String)>, Failure> {
        let whole = |(name, file): &(String, String)| {
            let file = std::path::absolute(file)
                .map_err(|error| Failure::failed(&format!("credential {name}"), &error))?;
            // A directory that this user cannot read may have it.
            if is_here && matches!(file.try_exists(), Ok(false)) {
                let message = format!("there is no file {} for credential {name}", file.display());
                return Err(Failure::new(Exit::Failed, message)
                    .hint("create it, or name a file that exists: --credential NAME=FILE"));
            }
            Ok((name.clone(), file.display().to_string()))
        };
        self.credential.iter().map(whole).collect()
    }

    fn finish(
        &self,
        global: &Global,
        service: &ServiceFile,
        action: FileAction,
    ) -> Result<(), Failure> {
        let starts = service.is_here && !self.no_start;
        let commands = service.start_commands(action);
        if starts {
            run_commands(&commands, |line| {
                format!(
                    "{} is written; run `{line}` when the service manager is available, or \
                     use --no-start",
                    service.file.display()
                )
            })?;
        }
        let installed = InstalledService { file: service.file.clone(), started: starts };
        output::show(global.json, &installed, |installed| {
            let written = match action {
                FileAction::Create | FileAction::Replace => "written",
                FileAction::Nothing => "is there already",
            };
            let mut text = format!("{} {written}\n", installed.file.display());
            match starts {
                true => text += &format!("the gateway runs: {} status\n", global.keyward()),
                false if service.is_here => {
                    text += "start it:\n";
                    text.extend(commands.iter().map(|line| format!("  {}\n", line.join(" "))));
                }
                false => {}
            }
            text
        })
    }
}

/// The command of a gateway, and what it needs.
struct GatewayCommand {
    words: Vec<String>,
    program: PathBuf,
    data: Option<PathBuf>,
    has_no_config: bool,
}

impl GatewayCommand {
    /// Refuses what the hardened unit of this machine's system cannot run.
    fn can_run(&self, service: &ServiceFile) -> Result<(), Failure> {
        if !(service.is_of_systemd_for_all() && service.is_here) {
            return Ok(());
        }
        let program = self.program.display();
        let is_hidden = HIDDEN.iter().any(|folder| self.program.starts_with(folder));
        let (message, hint) = match &self.data {
            _ if is_hidden => (
                format!(
                    "a service of the system cannot run {program}: its unit hides home directories"
                ),
                format!(
                    "install -m 755 {program} /usr/local/bin/keyward, then: \
                     /usr/local/bin/keyward service install"
                ),
            ),
            Some(data) if data != Path::new(SYSTEM_DATA) => (
                format!(
                    "a service of the system cannot write to {}: its unit has {SYSTEM_DATA}",
                    data.display()
                ),
                "omit --data and KEYWARD_DATA, or change what --print shows".to_owned(),
            ),
            _ => return Ok(()),
        };
        Err(Failure::new(Exit::Failed, message).hint(hint))
    }
}

/// What becomes of the service's file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FileAction {
    Create,
    Replace,
    /// It says the same already.
    Nothing,
}

fn action(file: &Path, text: &str, force: bool) -> Result<FileAction, Failure> {
    match fs::read_to_string(file) {
        Ok(present) if present == text && !force => Ok(FileAction::Nothing),
        Ok(_) if !force => {
            Err(Failure::new(Exit::Failed, format!("{} has other content", file.display()))
                .hint("compare it with `keyward service install --print`; --force replaces it"))
        }
        Ok(_) => Ok(FileAction::Replace),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FileAction::Create),
        Err(error) => Err(cannot("read", file, &error)),
    }
}

/// By a rename, so that no service manager reads half a file.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, file)
}

fn cannot(what: &str, file: &Path, error: &io::Error) -> Failure {
    let failure = Failure::failed(&format!("cannot {what} {}", file.display()), error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.hint("run it as root, or install a service of this user with --user")
        }
        _ => failure,
    }
}

fn uninstall(global: &Global, service: &ServiceFile) -> Result<(), Failure> {
    if !service.file.exists() {
        let message = format!("there is no service at {}", service.file.display());
        return Err(Failure::new(Exit::NotFound, message));
    }
    if service.is_here {
        run_commands(&service.stop_commands(), |line| {
            format!(
                "run `{line}` when the service manager is available, or remove {} by hand",
                service.file.display()
            )
        })?;
    }
    fs::remove_file(&service.file).map_err(|error| cannot("remove", &service.file, &error))?;
    let file = service.file.display().to_string();
    let text = format!("{file} removed; data and configuration stay\n");
    output::removed(global.json, &[file], &text)
}

impl ServiceFile {
    fn start(&self, global: &Global) -> Result<GatewayCommand, Failure> {
        let program = own_program()?;
        let given = |given: &Option<PathBuf>, name: &str| {
            let path = given.clone().or_else(|| variable(name));
            path.map(|path| std::path::absolute(&path).unwrap_or(path))
        };
        let mut config = given(&global.config, "KEYWARD_CONFIG");
        let mut data = given(&global.data, "KEYWARD_DATA");
        let mut has_no_config = false;
        if self.is_of_systemd_for_all() {
            // In an image, the configuration may be added later.
            has_no_config = config.is_none() && self.is_here && !Path::new(SYSTEM_CONFIG).exists();
            config = config.or_else(|| (!has_no_config).then(|| SYSTEM_CONFIG.into()));
            data = data.or_else(|| Some(SYSTEM_DATA.into()));
        }
        let mut words = vec![program.display().to_string(), "serve".to_owned()];
        for (option, path) in [("--config", config), ("--data", data.clone())] {
            let path = path.map(|path| [option.to_owned(), path.display().to_string()]);
            words.extend(path.into_iter().flatten());
        }
        Ok(GatewayCommand { words, program, data, has_no_config })
    }

    fn text(&self, words: &[String], credentials: &[(String, String)]) -> String {
        match (self.manager, self.is_system) {
            (ServiceManagerKind::Launchd, _) => property_list(words),
            (ServiceManagerKind::Systemd, true) => system_unit(words, credentials),
            (ServiceManagerKind::Systemd, false) => user_unit(words, credentials),
        }
    }

    /// Whether its unit is the hardened one.
    fn is_of_systemd_for_all(&self) -> bool {
        self.is_system && self.manager == ServiceManagerKind::Systemd
    }

    /// A service that runs is restarted if its file was replaced: starting it again does nothing.
    fn start_commands(&self, action: FileAction) -> Vec<Vec<String>> {
        match (self.manager, action) {
            (ServiceManagerKind::Systemd, FileAction::Replace) => vec![
                self.systemctl(&["daemon-reload"]),
                self.systemctl(&["enable", UNIT]),
                self.systemctl(&["restart", UNIT]),
            ],
            (ServiceManagerKind::Systemd, FileAction::Create | FileAction::Nothing) => {
                vec![self.systemctl(&["daemon-reload"]), self.systemctl(&["enable", "--now", UNIT])]
            }
            // `unload` succeeds also if the job is not loaded.
            (ServiceManagerKind::Launchd, FileAction::Replace) => {
                vec![self.launchctl("unload"), self.launchctl("load")]
            }
            (ServiceManagerKind::Launchd, FileAction::Create | FileAction::Nothing) => {
                vec![self.launchctl("load")]
            }
        }
    }

    fn stop_commands(&self) -> Vec<Vec<String>> {
        match self.manager {
            ServiceManagerKind::Systemd => vec![self.systemctl(&["disable", "--now", UNIT])],
            ServiceManagerKind::Launchd => vec![self.launchctl("unload")],
        }
    }

    fn systemctl(&self, words: &[&str]) -> Vec<String> {
        let user = (!self.is_system).then_some("--user");
        let all = ["systemctl"].into_iter().chain(user).chain(words.iter().copied());
        all.map(str::to_owned).collect()
    }

    fn launchctl(&self, verb: &str) -> Vec<String> {
        let file = self.file.display().to_string();
        vec!["launchctl".to_owned(), verb.to_owned(), "-w".to_owned(), file]
    }
}

/// Runs the commands of the service manager. `advice`: the remedy for a command that fails.
fn run_commands(commands: &[Vec<String>], advice: impl Fn(&str) -> String) -> Result<(), Failure> {
    for words in commands {
        let line = words.join(" ");
        let status = Process::new(&words[0]).args(&words[1..]).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => {
                let message = format!("`{line}` failed: {status}");
                return Err(Failure::new(Exit::Failed, message).hint(advice(&line)));
            }
            Err(error) => {
                return Err(
                    Failure::failed(&format!("cannot run `{line}`"), &error).hint(advice(&line))
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_different_service_file_is_replaced_only_with_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b").join(UNIT);
        assert!(matches!(action(&file, "new", false), Ok(FileAction::Create)));
        write(&file, "old").unwrap();
        assert!(matches!(action(&file, "old", false), Ok(FileAction::Nothing)));
        let refused = action(&file, "new", false).err().unwrap();
        assert!(refused.advice().unwrap().contains("--force"));
        assert!(matches!(action(&file, "new", true), Ok(FileAction::Replace)));
        // The restart of a first attempt may have failed.
        assert!(matches!(action(&file, "old", true), Ok(FileAction::Replace)));
    }

    #[test]
    fn a_service_is_restarted_only_if_its_file_was_replaced() {
        let commands = |manager, action| {
            let file = PathBuf::from("FILE");
            let service = ServiceFile { manager, is_system: true, file, is_here: true };
            let lines = service.start_commands(action);
            lines.iter().map(|words| words.join(" ")).collect::<Vec<_>>()
        };
        for action in [FileAction::Create, FileAction::Nothing] {
            let systemd = commands(ServiceManagerKind::Systemd, action);
            let enable = "systemctl enable --now keyward.service";
            assert_eq!(systemd, ["systemctl daemon-reload", enable], "{action:?}");
            let launchd = commands(ServiceManagerKind::Launchd, action);
            assert_eq!(launchd, ["launchctl load -w FILE"], "{action:?}");
        }
        let systemd = commands(ServiceManagerKind::Systemd, FileAction::Replace);
        let enable = "systemctl enable keyward.service";
        let restart = "systemctl restart keyward.service";
        assert_eq!(systemd, ["systemctl daemon-reload", enable, restart]);
        let launchd = commands(ServiceManagerKind::Launchd, FileAction::Replace);
        assert_eq!(launchd, ["launchctl unload -w FILE", "launchctl load -w FILE"]);
    }
}
