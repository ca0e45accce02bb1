//! [`ImportPlace`]: a place where `keyward import` looks for keys. Its values become candidates.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use http::Uri;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::candidate::{BASIC, ImportCandidate, SourceContent};
use super::{dotenv, logins, tool_files, vaults};
use crate::cli::connect::tools::Tool;
use crate::cli::failure::{Exit, Failure};
use crate::cli::files::read_text;

/// Longest file that is read.
const FILE_MIB_MAX: u64 = 1;

/// What can be named as a source.
pub(super) const SOURCES: &str = "sources: env, aws, gh, gcloud, netrc, npm, pip, pypirc, codex, claude, onecli, \
                                  agent-vault, or a file of variables such as .env";

/// A place where keys are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ImportPlace {
    /// The environment of this process.
    Environment,
    /// `credentials` of AWS's tools.
    Aws,
    /// The GitHub command line.
    Gh,
    /// The default credentials of `gcloud`.
    Gcloud,
    /// `.netrc`.
    Netrc,
    /// `.npmrc`.
    Npm,
    /// `pip.conf`.
    Pip,
    /// `.pypirc`.
    Pypirc,
    /// The login of Codex.
    Codex,
    /// The login of Claude Code.
    Claude,
    /// An export of OneCLI.
    OneCli(PathBuf),
    /// The services and the credentials of Agent Vault.
    AgentVault(PathBuf, PathBuf),
    /// A file of variables.
    File(PathBuf),
}

impl ImportPlace {
    /// The sources with these names. A name with a dot or a slash, or of a file that exists, is a file.
    ///
    /// # Errors
    /// When there is no such source, or its files are not named.
    pub(super) fn parse_all<'a>(
        mut names: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Self>, Failure> {
        let mut found = Vec::new();
        while let Some(name) = names.next() {
            let mut file = |usage: &str| {
                let failure = || Failure::usage(format!("`{name}` needs files")).hint(usage);
                names.next().map(PathBuf::from).ok_or_else(failure)
            };
            found.push(match name {
                "onecli" => Self::OneCli(file("keyward import onecli EXPORT.json")?),
                "agent-vault" => {
                    let usage = "keyward import agent-vault SERVICES.yaml CREDENTIALS.json";
                    Self::AgentVault(file(usage)?, file(usage)?)
                }
                _ => Self::parse(name)?,
            });
        }
        Ok(found)
    }

    fn parse(name: &str) -> Result<Self, Failure> {
        Ok(match name {
            "env" => Self::Environment,
            "aws" => Self::Aws,
            "gh" => Self::Gh,
            "gcloud" => Self::Gcloud,
            "netrc" => Self::Netrc,
            "npm" => Self::Npm,
            "pip" => Self::Pip,
            "pypirc" => Self::Pypirc,
            "codex" => Self::Codex,
            "claude" => Self::Claude,
            file if file.contains(['.', '/']) || Path::new(file).is_file() => {
                Self::File(file.into())
            }
            other => {
                return Err(Failure::usage(format!("there is no source `{other}`")).hint(SOURCES));
            }
        })
    }

    /// The words of the command line that name it.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Environment => "env".to_owned(),
            Self::Aws => "aws".to_owned(),
            Self::Gh => "gh".to_owned(),
            Self::Gcloud => "gcloud".to_owned(),
            Self::Netrc => "netrc".to_owned(),
            Self::Npm => "npm".to_owned(),
            Self::Pip => "pip".to_owned(),
            Self::Pypirc => "pypirc".to_owned(),
            Self::Codex => "codex".to_owned(),
            Self::Claude => "claude".to_owned(),
            Self::OneCli(path) => format!("onecli {}", path.display()),
            Self::AgentVault(services, credentials) => {
                format!("agent-vault {} {}", services.display(), credentials.display())
            }
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// When its file is missing or cannot be read, or its program fails.
    pub(super) fn read(&self) -> Result<SourceContent, Failure> {
        match self {
            Self::Environment => Ok(environment(env::vars_os())),
            Self::Gh => gh(),
            Self::File(path) => {
                let text = text_of(path)?;
                let candidates = variables(&path.display().to_string(), &text);
                Ok(SourceContent { candidates, text: Some(text), ..SourceContent::default() })
            }
            Self::OneCli(path) => vaults::onecli(&path.display().to_string(), &text_of(path)?),
            Self::AgentVault(services, credentials) => {
                let names = (services.display().to_string(), credentials.display().to_string());
                let texts = (text_of(services)?, text_of(credentials)?);
                vaults::agent_vault(&names.0, &texts.0, &names.1, &texts.1)
            }
            Self::Claude => Ok(logins::claude(&self.file()?)),
            Self::Aws => self.aws(),
            Self::Gcloud | Self::Netrc | Self::Npm | Self::Pip | Self::Pypirc | Self::Codex => {
                let path = self.file()?;
                let (name, text) = (path.display().to_string(), text_of(&path)?);
                Ok(match self {
                    Self::Gcloud => gcloud(&name, text),
                    Self::Netrc => netrc(&name, &text),
                    Self::Npm => npm(&name, &text),
                    Self::Pypirc => tool_files::pypirc(&name, text),
                    Self::Codex => logins::codex(&name, text),
                    _ => pip(&name, &text),
                })
            }
        }
    }

    /// The keys of `credentials` and `config`, of which one is enough.
    fn aws(&self) -> Result<SourceContent, Failure> {
        let credentials = self.file()?;
        let config = env::var_os("AWS_CONFIG_FILE").map(PathBuf::from);
        let config = config.or_else(|| Some(env::home_dir()?.join(".aws/config")));
        let config = config.filter(|path| path.exists());
        let mut found = match (credentials.exists(), &config) {
            (false, Some(_)) => SourceContent::default(),
            _ => tool_files::aws_profiles(
                &credentials.display().to_string(),
                &text_of(&credentials)?,
            ),
        };
        if let Some(path) = config {
            let read = tool_files::aws_profiles(&path.display().to_string(), &text_of(&path)?);
            found.candidates.extend(read.candidates);
            found.unusable.extend(read.unusable);
        }
        Ok(found)
    }

    /// Its file, which a variable of its tool may name.
    pub(super) fn file(&self) -> Result<PathBuf, Failure> {
        let home = env::home_dir().ok_or_else(|| Failure::new(Exit::Failed, "HOME is not set"))?;
        let (variable, usual) = match self {
            Self::Aws => ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
            Self::Gcloud => (
                "GOOGLE_APPLICATION_CREDENTIALS",
                ".config/gcloud/application_default_credentials.json",
            ),
            Self::Npm => ("NPM_CONFIG_USERCONFIG", ".npmrc"),
            // Both variables name the tool's folder.
            Self::Codex => return Ok(in_folder("CODEX_HOME", &home.join(".codex"), "auth.json")),
            Self::Claude => {
                let usual = home.join(".claude");
                return Ok(in_folder("CLAUDE_CONFIG_DIR", &usual, ".credentials.json"));
            }
            Self::Pip => ("PIP_CONFIG_FILE", ".config/pip/pip.conf"),
            // No variable names it: twine and flit take its path as an option.
            Self::Pypirc => return Ok(home.join(".pypirc")),
            _ => ("NETRC", ".netrc"),
        };
        Ok(env::var_os(variable).map_or_else(|| home.join(usual), PathBuf::from))
    }
}

fn in_folder(variable: &str, usual: &Path, name: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| usual.to_owned(), PathBuf::from).join(name)
}

fn text_of(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = format!("cannot read {}", path.display());
    read_text(path, FILE_MIB_MAX, &failed).map(Zeroizing::new)
}

fn environment(all: impl Iterator<Item = (OsString, OsString)>) -> SourceContent {
    // No key has other characters than UTF-8.
    let texts =
        all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let set = texts.filter(|(_, value)| !value.is_empty());
    // Keyward's own variables, and what `keyward run` sets, are not accounts.
    let set = set.filter(|(name, _)| !name.starts_with("KEYWARD_"));
    let candidates = set.map(|(name, value)| {
        ImportCandidate::in_variable(format!("environment: {name}"), "environment", &name, &value)
    });
    SourceContent { candidates: candidates.collect(), ..SourceContent::default() }
}

fn variables(file: &str, text: &str) -> Vec<ImportCandidate> {
    let set = dotenv::lines(text).into_iter().filter(|line| !line.value.is_empty());
    let each = set.map(|line| {
        let place = format!("{file}:{} {}", line.number, line.name);
        let found = ImportCandidate::in_variable(place, file, line.name, line.value);
        ImportCandidate { at: Some(line.at), ..found }
    });
    each.collect()
}

fn gh() -> Result<SourceContent, Failure> {
    let tool = Tool::named("gh", None)?;
    let found = ImportCandidate {
        provider: Some(tool.provider),
        value: tool.token()?,
        ..ImportCandidate::of("gh auth token".to_owned(), "gh", "")
    };
    Ok(SourceContent { candidates: vec![found], ..SourceContent::default() })
}

/// The document of a service account is one secret; the tokens of a person belong to gcloud's own app.
fn gcloud(file: &str, text: Zeroizing<String>) -> SourceContent {
    let document: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let mut found = SourceContent::default();
    match document["type"].as_str() {
        Some("service_account") => found.candidates.push(ImportCandidate {
            provider: Some("google-cloud"),
            ..ImportCandidate::of(file.to_owned(), "gcloud", &text)
        }),
        Some("authorized_user") => found.unusable.push((
            file.to_owned(),
            "the login of a person belongs to gcloud's own OAuth app: keyward connect google-cloud"
                .to_owned(),
        )),
        _ => found.unusable.push((file.to_owned(), "it has no credentials of gcloud".to_owned())),
    }
    found
}

/// `machine HOST login USER password SECRET`, in any order after `machine`, on one line or several.
fn netrc(file: &str, text: &str) -> SourceContent {
    let mut found = SourceContent::default();
    let mut words = Vec::new();
    // A macro ends at an empty line.
    let mut is_macro = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        is_macro = line.starts_with("macdef ") || is_macro && !line.is_empty();
        if !is_macro && !line.starts_with('#') {
            words.extend(line.split_whitespace().map(|word| (index + 1, word)));
        }
    }
    let mut words = words.into_iter();
    let (mut host, mut user) = (None, None);
    while let Some((line, word)) = words.next() {
        match word {
            "machine" => (host, user) = (words.next().map(|(_, host)| host.to_owned()), None),
            "default" => (host, user) = (None, None),
            "login" => user = words.next().map(|(_, user)| user.to_owned()),
            "password" => {
                let Some((_, value)) = words.next() else { break };
                let Some(host) = host.clone() else { continue };
                let place = format!("{file}:{line} {host}");
                let one = ImportCandidate::of(place, &host, value);
                let (host, option) = (Some(host), Some(BASIC.to_owned()));
                found.candidates.push(ImportCandidate { host, user: user.clone(), option, ..one });
            }
            _ => {}
        }
    }
    found
}

/// `//HOST/PATH/:_authToken=TOKEN`. An `_auth`, and a `_password` beside a `username`, are a user name and a password, which
/// a person gives to `keyward connect`.
fn npm(file: &str, text: &str) -> SourceContent {
    let mut found = SourceContent::default();
    for (index, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let Some(rest) = key.trim().strip_prefix("//") else { continue };
        let host_of = |suffix: &str| rest.strip_suffix(suffix)?.split('/').next();
        if let Some(host) = host_of(":_auth").or_else(|| host_of(":_password")) {
            let why =
                format!("a user name with a password: keyward connect https://{host} {BASIC}");
            found.unusable.push((format!("{file}:{} {host}", index + 1), why));
        }
        let Some(host) = host_of(":_authToken") else { continue };
        let (place, value) =
            (format!("{file}:{} {host}", index + 1), value.trim().trim_matches('"'));
        // `${NPM_TOKEN}` is a variable.
        if !value.starts_with("${") {
            let one = ImportCandidate::of(place, host, value);
            found.candidates.push(ImportCandidate { host: Some(host.to_owned()), ..one });
        }
    }
    found
}

/// `index-url = https://USER:PASSWORD@HOST/simple`.
fn pip(file: &str, text: &str) -> SourceContent {
    let mut found = SourceContent::default();
    for (index, line) in text.lines().enumerate() {
        let Some((_, value)) = line.split_once('=') else { continue };
        let Ok(url) = value.trim().parse::<Uri>() else { continue };
        let login = url.authority().and_then(|it| it.as_str().rsplit_once('@'));
        if let (Some(host), Some((user, password))) =
            (url.host(), login.and_then(|it| it.0.split_once(':')))
        {
            let decoded = percent_decode_str(password).decode_utf8_lossy();
            let one = ImportCandidate::of(format!("{file}:{} {host}", index + 1), host, &decoded);
            let user = percent_decode_str(user).decode_utf8_lossy().into_owned();
            let (host, user) = (Some(host.to_owned()), Some(user));
            found.candidates.push(ImportCandidate {
                host,
                user,
                option: Some(BASIC.to_owned()),
                ..one
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(read: &SourceContent) -> Vec<String> {
        let each = read.candidates.iter().map(|it| {
            let of = |text: &Option<String>| text.clone().unwrap_or_default();
            let (variable, host, user) = (of(&it.variable), of(&it.host), of(&it.user));
            format!("{} | {variable}{host} {user} | {}", it.place, it.value.text())
        });
        each.collect()
    }

    #[test]
    fn files_of_tools_are_read_as_their_tools_read_them() {
        let text = "# password no\nmachine a.test login me password P1\nmachine b.test\n  password P2\n  login you\ndefault password P3\n";
        assert_eq!(
            shown(&netrc("n", text)),
            ["n:2 a.test | a.test me | P1", "n:4 b.test | b.test  | P2"]
        );
        let text = "machine a.test password P1\nmacdef init\n  machine evil.test password P2\n\nmachine b.test password P3\n";
        assert_eq!(
            shown(&netrc("n", text)),
            ["n:1 a.test | a.test  | P1", "n:5 b.test | b.test  | P3"]
        );
        let text = "registry=https://r.test\n//r.test/:_authToken=T1\n//s.test/p/:_authToken=\"T2\"\n//v.test/:_authToken=${NPM_TOKEN}\n//w.test/:_auth=canary\n//w.test/:username=me\n//w.test/:_password=canary\n";
        assert_eq!(
            shown(&npm("m", text)),
            ["m:2 r.test | r.test  | T1", "m:3 s.test | s.test  | T2"]
        );
        let why = "a user name with a password: keyward connect https://w.test --basic";
        let refused = ["m:5 w.test", "m:7 w.test"].map(|at| (at.to_owned(), why.to_owned()));
        assert_eq!(npm("m", text).unusable, refused);
        let text = "[global]\nindex-url = https://me%40corp.test:p%40ss@pypi.test/simple\nextra-index-url = https://open.test/\n";
        assert_eq!(shown(&pip("p", text)), ["p:2 pypi.test | pypi.test me@corp.test | p@ss"]);
    }

    #[test]
    fn a_gcloud_login_of_a_person_is_not_imported() {
        let text = r#"{"type":"authorized_user","refresh_token":"canary"}"#.to_owned();
        let found = gcloud("g", Zeroizing::new(text));
        assert!(found.candidates.is_empty());
        assert!(!found.unusable[0].1.contains("canary"));
        let text = r#"{"type":"service_account","private_key":"k"}"#.to_owned();
        assert_eq!(gcloud("g", Zeroizing::new(text)).candidates.len(), 1);
    }
}
