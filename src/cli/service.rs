//! `keyward service`: installs the gateway as a service of systemd or launchd. The unit of a system is that of
//! `deploy/keyward.service`, with the paths of this installation.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;

/// The unit that packages install.
const SYSTEM_UNIT: &str = include_str!("../../deploy/keyward.service");
/// Its command, which names the paths of a package.
const SYSTEM_START: &str =
    "/usr/local/bin/keyward serve --config /etc/keyward/keyward.yaml --data /var/lib/keyward";

const UNIT: &str = "keyward.service";
const LABEL: &str = "dev.keyward.gateway";

const EXAMPLES: &str = "\
As root a service of the system is installed, otherwise one of this user, with systemd or (on macOS)
launchd. It starts now and at each start of the machine. A credential is a file that only root may
read; systemd copies it for the service, and the configuration names it by
`{ file: /run/credentials/keyward.service/NAME }`.

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
    #[arg(long, value_name = "NAME=FILE", value_parser = super::agent::pair)]
    credential: Vec<(String, String)>,
    /// print the file and change nothing
    #[arg(long)]
    print: bool,
    /// write the file, but neither enable nor start the service
    #[arg(long)]
    no_start: bool,
    /// replace a file that says otherwise
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
    manager: Option<Manager>,
    /// write below this directory, for images and packages; starts nothing
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Manager {
    Systemd,
    Launchd,
}

/// A service, and where its file is.
#[derive(Debug)]
struct Service {
    manager: Manager,
    is_system: bool,
    file: PathBuf,
    /// Whether the file is for this machine, which can start the service.
    is_here: bool,
}

#[derive(Debug, Serialize)]
struct Installed {
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
    fn service(&self) -> Result<Service, Failure> {
        let is_system = self.system || (!self.user && rustix::process::geteuid().is_root());
        let manager = self.manager.unwrap_or(match cfg!(target_os = "macos") {
            true => Manager::Launchd,
            false => Manager::Systemd,
        });
        let folder = match (manager, is_system) {
            (Manager::Systemd, true) => PathBuf::from("/etc/systemd/system"),
            (Manager::Systemd, false) => match variable("XDG_CONFIG_HOME") {
                Some(folder) => folder.join("systemd/user"),
                None => home()?.join(".config/systemd/user"),
            },
            (Manager::Launchd, true) => PathBuf::from("/Library/LaunchDaemons"),
            (Manager::Launchd, false) => home()?.join("Library/LaunchAgents"),
        };
        let folder = match &self.root {
            Some(root) => root.join(folder.strip_prefix("/").unwrap_or(&folder)),
            None => folder,
        };
        let name = match manager {
            Manager::Systemd => UNIT.to_owned(),
            Manager::Launchd => format!("{LABEL}.plist"),
        };
        Ok(Service { manager, is_system, file: folder.join(name), is_here: self.root.is_none() })
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
        if service.manager == Manager::Launchd && !self.credential.is_empty() {
            return Err(Failure::usage("launchd has no credentials")
                .hint("leave --credential out, and name the file in the configuration"));
        }
        let text = service.text(global, &self.credential)?;
        if self.print {
            return output::print(&text);
        }
        let FileAction::Write = action(&service.file, &text, self.force)? else {
            return self.finish(global, &service, false);
        };
        write(&service.file, &text).map_err(|error| cannot("write", &service.file, &error))?;
        self.finish(global, &service, true)
    }

    fn finish(&self, global: &Global, service: &Service, is_new: bool) -> Result<(), Failure> {
        let starts = service.is_here && !self.no_start;
        if starts {
            service.run(&service.start_commands())?;
        }
        let installed = Installed { file: service.file.clone(), started: starts };
        output::show(global.json, &installed, |installed| {
            let written = if is_new { "written" } else { "is there already" };
            let mut text = format!("{} {written}\n", installed.file.display());
            match starts {
                true => text += &format!("the gateway runs: {} status\n", global.keyward()),
                false if service.is_here => {
                    text += "start it:\n";
                    text.extend(
                        service
                            .start_commands()
                            .iter()
                            .map(|line| format!("  {}\n", line.join(" "))),
                    );
                }
                false => {}
            }
            text
        })
    }
}

/// What to do with the file.
enum FileAction {
    Write,
    Nothing,
}

fn action(file: &Path, text: &str, force: bool) -> Result<FileAction, Failure> {
    match fs::read_to_string(file) {
        Ok(present) if present == text => Ok(FileAction::Nothing),
        Ok(_) if !force => {
            Err(Failure::new(Exit::Failed, format!("{} says otherwise", file.display()))
                .hint("compare it with `keyward service install --print`; --force replaces it"))
        }
        Ok(_) => Ok(FileAction::Write),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FileAction::Write),
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

fn uninstall(global: &Global, service: &Service) -> Result<(), Failure> {
    if !service.file.exists() {
        let message = format!("there is no service at {}", service.file.display());
        return Err(Failure::new(Exit::NotFound, message));
    }
    if service.is_here {
        service.run(&service.stop_commands())?;
    }
    fs::remove_file(&service.file).map_err(|error| cannot("remove", &service.file, &error))?;
    let file = service.file.display().to_string();
    let text = format!("{file} removed; data and configuration stay\n");
    output::removed(global.json, &[file], &text)
}

impl Service {
    fn text(&self, global: &Global, credentials: &[(String, String)]) -> Result<String, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::failed("cannot find this program's file", &error))?;
        let mut words = vec![program.display().to_string(), "serve".to_owned()];
        let (config, data) = match (self.is_system, self.manager) {
            (true, Manager::Systemd) => ("/etc/keyward/keyward.yaml", "/var/lib/keyward"),
            _ => ("", ""),
        };
        for (option, given, usual) in
            [("--config", &global.config, config), ("--data", &global.data, data)]
        {
            let of_environment = variable(&format!("KEYWARD_{}", option[2..].to_uppercase()));
            let path = match given.clone().or(of_environment) {
                Some(path) => std::path::absolute(&path).unwrap_or(path),
                None if usual.is_empty() => continue,
                None => PathBuf::from(usual),
            };
            words.extend([option.to_owned(), path.display().to_string()]);
        }
        Ok(match (self.manager, self.is_system) {
            (Manager::Launchd, _) => property_list(&words),
            (Manager::Systemd, true) => system_unit(&words, credentials),
            (Manager::Systemd, false) => user_unit(&words, credentials),
        })
    }

    fn start_commands(&self) -> Vec<Vec<String>> {
        match self.manager {
            Manager::Systemd => {
                vec![self.systemctl(&["daemon-reload"]), self.systemctl(&["enable", "--now", UNIT])]
            }
            Manager::Launchd => vec![self.launchctl("load")],
        }
    }

    fn stop_commands(&self) -> Vec<Vec<String>> {
        match self.manager {
            Manager::Systemd => vec![self.systemctl(&["disable", "--now", UNIT])],
            Manager::Launchd => vec![self.launchctl("unload")],
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

    /// Runs the commands of the service manager.
    fn run(&self, commands: &[Vec<String>]) -> Result<(), Failure> {
        for words in commands {
            let line = words.join(" ");
            let advice = || {
                format!(
                    "{} is written; run `{line}` when the service manager is available, or \
                     use --no-start",
                    self.file.display()
                )
            };
            let status = Process::new(&words[0]).args(&words[1..]).status();
            match status {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    let message = format!("`{line}` failed: {status}");
                    return Err(Failure::new(Exit::Failed, message).hint(advice()));
                }
                Err(error) => {
                    return Err(
                        Failure::failed(&format!("cannot run `{line}`"), &error).hint(advice())
                    );
                }
            }
        }
        Ok(())
    }
}

fn system_unit(words: &[String], credentials: &[(String, String)]) -> String {
    let start = command_line(words);
    let start = format!("ExecStart={start}\n{}", load_credentials(credentials));
    SYSTEM_UNIT.replace(&format!("ExecStart={SYSTEM_START}\n"), &start)
}

fn user_unit(words: &[String], credentials: &[(String, String)]) -> String {
    format!(
        "# Written by `keyward service install`.\n\
         [Unit]\n\
         Description=Keyward, a proxy that gives agents API access without credentials\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         ExecStart={}\n\
         {}\
         Restart=on-failure\n\
         RestartSec=2s\n\
         # Longer than `limits.drain_timeout`.\n\
         TimeoutStopSec=45s\n\
         UMask=0077\n\
         LimitNOFILE=65536\n\
         # Secrets never reach a core file.\n\
         LimitCORE=0\n\
         NoNewPrivileges=yes\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        command_line(words),
        load_credentials(credentials),
    )
}

fn load_credentials(credentials: &[(String, String)]) -> String {
    let line = |(name, file): &(String, String)| format!("LoadCredential={name}:{file}\n");
    credentials.iter().map(line).collect()
}

/// Words as systemd splits them (systemd.service(5), command lines).
fn command_line(words: &[String]) -> String {
    let quoted = |word: &String| {
        let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        let word = word.replace('$', "$$");
        let needs = word.is_empty() || word.contains([' ', '\t', '\'', '"', ';']);
        if needs { format!("\"{word}\"") } else { word }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn property_list(words: &[String]) -> String {
    let escaped =
        |word: &String| word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let words: String =
        words.iter().map(|word| format!("    <string>{}</string>\n", escaped(word))).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n  \
         <key>Label</key>\n  <string>{LABEL}</string>\n  \
         <key>ProgramArguments</key>\n  <array>\n{words}  </array>\n  \
         <key>RunAtLoad</key>\n  <true/>\n  \
         <key>KeepAlive</key>\n  <dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>\n  \
         <key>Umask</key>\n  <integer>63</integer>\n\
         </dict>\n</plist>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_the_system_is_the_packaged_one_with_other_paths() {
        assert_eq!(SYSTEM_UNIT.matches(&format!("ExecStart={SYSTEM_START}\n")).count(), 1);
        let words = ["/opt/key ward/keyward", "serve", "--data", "/d$1%"].map(str::to_owned);
        let credential = ("master.key".to_owned(), "/etc/keyward/master.key".to_owned());
        let unit = system_unit(&words, &[credential]);
        assert!(unit.contains(
            "\nExecStart=\"/opt/key ward/keyward\" serve --data /d$$1%%\n\
             LoadCredential=master.key:/etc/keyward/master.key\n"
        ));
        assert!(!unit.contains(SYSTEM_START));
        assert!(unit.contains("\nDynamicUser=yes\n"));
    }

    #[test]
    fn a_file_that_says_otherwise_is_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b").join(UNIT);
        assert!(matches!(action(&file, "new", false), Ok(FileAction::Write)));
        write(&file, "old").unwrap();
        assert!(matches!(action(&file, "old", false), Ok(FileAction::Nothing)));
        let refused = action(&file, "new", false).err().unwrap();
        assert!(refused.advice().unwrap().contains("--force"));
        assert!(matches!(action(&file, "new", true), Ok(FileAction::Write)));
    }

    #[test]
    fn a_property_list_escapes_its_words() {
        let text = property_list(&["/a&b/<keyward>".to_owned()]);
        assert!(text.contains("<string>/a&amp;b/&lt;keyward&gt;</string>"), "{text}");
    }
}
