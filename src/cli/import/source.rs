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
use keyward_rules::inject::placeholder;

/// Longest file that is read.
const FILE_MIB_MAX: u64 = 1;

/// A row of `places.tsv`.
#[derive(Clone, Copy, Debug)]
struct PlaceRow {
    name: &'static str,
    /// How its content is read.
    format: &'static str,
    /// The provider of all its keys.
    provider: &'static str,
    /// The variable that names the file, or, before a slash, its folder.
    variable: &'static str,
    /// The usual path of the file in the home folder.
    path: &'static str,
    /// Where files must be named: the command that does that.
    usage: &'static str,
}

/// A file of variables, which the table does not name.
const VARIABLES: PlaceRow =
    PlaceRow { name: "", format: "variables", provider: "-", variable: "-", path: "-", usage: "-" };

/// A place where keys are.
#[derive(Clone, Debug)]
pub(super) struct ImportPlace {
    row: PlaceRow,
    /// The files that the command line names.
    files: Vec<PathBuf>,
}

fn rows() -> impl Iterator<Item = PlaceRow> {
    include_str!("places.tsv").lines().filter_map(|line| {
        let mut cells = line.split('\t');
        Some(PlaceRow {
            name: cells.next()?,
            format: cells.next()?,
            provider: cells.next()?,
            variable: cells.next()?,
            path: cells.next()?,
            usage: cells.next()?,
        })
    })
}

/// What can be named as a source.
pub(super) fn known_sources() -> String {
    let names: Vec<_> = rows().map(|row| row.name).collect();
    format!("sources: {}, or a file of variables such as .env", names.join(", "))
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
            let is_file = || name.contains(['.', '/']) || Path::new(name).is_file();
            let place = match rows().find(|row| row.name == name) {
                Some(row) => {
                    // The usage ends with the names of the files.
                    let count = row.usage.split(' ').skip(3).count();
                    let files: Vec<_> = names.by_ref().take(count).map(PathBuf::from).collect();
                    if files.len() < count {
                        let failure = Failure::usage(format!("`{name}` needs files"));
                        return Err(failure.hint(row.usage));
                    }
                    Self { row, files }
                }
                None if is_file() => Self { row: VARIABLES, files: vec![name.into()] },
                None => {
                    let failure = Failure::usage(format!("there is no source `{name}`"));
                    return Err(failure.hint(known_sources()));
                }
            };
            found.push(place);
        }
        Ok(found)
    }

    /// The words of the command line that name it.
    pub(super) fn words(&self) -> String {
        let files = self.files.iter().map(|file| file.display().to_string());
        let words: Vec<_> = std::iter::once(self.row.name.to_owned()).chain(files).collect();
        words.join(" ").trim_start().to_owned()
    }

    /// Whether it is the login of a coding agent, whose refresh token is spent by its import.
    pub(super) fn is_agent_login(&self) -> bool {
        self.row.format == "agent_login"
    }

    /// Reads it.
    ///
    /// # Errors
    /// When its file is missing or cannot be read, or its program fails.
    pub(super) fn read(&self) -> Result<SourceContent, Failure> {
        match self.row.format {
            "environment" => return Ok(environment(env::vars_os())),
            "program" => return program(self.row.name),
            "profiles" => return self.profiles(),
            _ => {}
        }
        let path = self.file()?;
        let name = path.display().to_string();
        if self.row.format == "foreign_login" {
            return Ok(logins::claude(&path));
        }
        let text = text_of(&path)?;
        Ok(match self.row.format {
            "service_account" => service_account(&name, text, &self.row),
            "machines" => netrc(&name, &text),
            "registries" => npm(&name, &text),
            "addresses" => pip(&name, &text),
            "indexes" => tool_files::pypirc(&name, text),
            "agent_login" => logins::codex(&name, text),
            "secrets_of_hosts" => vaults::onecli(&name, &text)?,
            "services" => {
                let file = &self.files[1];
                let (values_name, values) = (file.display().to_string(), text_of(file)?);
                vaults::agent_vault(&name, &text, &values_name, &values)?
            }
            _ => {
                let candidates = variables(&name, &text);
                SourceContent { candidates, text: Some(text), ..SourceContent::default() }
            }
        })
    }

    /// The keys of `credentials` and `config`, of which one is enough.
    fn profiles(&self) -> Result<SourceContent, Failure> {
        let credentials = self.file()?;
        let config = env::var_os("AWS_CONFIG_FILE").map(PathBuf::from);
        let config = config.or_else(|| Some(env::home_dir()?.join(".aws/config")));
        let config = config.filter(|path| path.exists());
        let is_needed = credentials.exists() || config.is_none();
        let mut found = SourceContent::default();
        for path in is_needed.then_some(credentials).into_iter().chain(config) {
            let name = path.display().to_string();
            let read = tool_files::profiles(&name, &text_of(&path)?, self.row.provider);
            found.candidates.extend(read.candidates);
            found.unusable.extend(read.unusable);
        }
        Ok(found)
    }

    /// Its file, which the command line or a variable of its tool may name.
    pub(super) fn file(&self) -> Result<PathBuf, Failure> {
        if let Some(file) = self.files.first() {
            return Ok(file.clone());
        }
        let home = env::home_dir().ok_or_else(|| Failure::new(Exit::Failed, "HOME is not set"))?;
        let (variable, name) = self.row.variable.split_once('/').unwrap_or((self.row.variable, ""));
        Ok(match env::var_os(variable).map(PathBuf::from) {
            Some(file) if name.is_empty() => file,
            Some(folder) => folder.join(name),
            None => home.join(self.row.path),
        })
    }
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

/// The token that a tool prints.
fn program(name: &'static str) -> Result<SourceContent, Failure> {
    let tool = Tool::named(name, None)?;
    let found = ImportCandidate {
        provider: Some(tool.provider),
        value: tool.token()?,
        ..ImportCandidate::of(format!("{name} auth token"), name, "")
    };
    Ok(SourceContent { candidates: vec![found], ..SourceContent::default() })
}

/// The document of a service account is one secret; the tokens of a person belong to the tool's own app.
fn service_account(file: &str, text: Zeroizing<String>, row: &PlaceRow) -> SourceContent {
    let PlaceRow { name, provider, .. } = *row;
    let document: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let mut found = SourceContent::default();
    match document["type"].as_str() {
        _ if text.contains(placeholder::OF_ANY_CONNECTION) => found.unusable.push((
            file.to_owned(),
            "a file that Keyward made for a program: no service knows its key".to_owned(),
        )),
        Some("service_account") => found.candidates.push(ImportCandidate {
            provider: Some(provider),
            ..ImportCandidate::of(file.to_owned(), name, &text)
        }),
        Some("authorized_user") => found.unusable.push((
            file.to_owned(),
            format!("the login of a person belongs to {name}'s own OAuth app: keyward connect {provider}"),
        )),
        _ => found.unusable.push((file.to_owned(), format!("it has no credentials of {name}"))),
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
    use keyward_rules::provider::run_files::RUN_FILES;

    fn shown(read: &SourceContent) -> Vec<String> {
        let each = read.candidates.iter().map(|it| {
            let of = |text: &Option<String>| text.clone().unwrap_or_default();
            let (variable, host, user) = (of(&it.variable), of(&it.host), of(&it.user));
            format!("{} | {variable}{host} {user} | {}", it.place, it.value.text())
        });
        each.collect()
    }

    #[test]
    fn a_place_is_a_row_of_the_table_or_a_file_of_variables() {
        let parse = |names: &[&str]| ImportPlace::parse_all(names.iter().copied());
        let words = |names: &[&str]| -> Vec<String> {
            parse(names).unwrap().iter().map(ImportPlace::words).collect()
        };
        assert_eq!(words(&["env", "aws", "./.env"]), ["env", "aws", "./.env"]);
        assert_eq!(words(&["agent-vault", "s", "c", "gh"]), ["agent-vault s c", "gh"]);
        assert_eq!(words(&["onecli", "env"]), ["onecli env"]);
        for (bad, said) in [
            (&["nowhere"][..], "there is no source `nowhere`"),
            (&["onecli"][..], "`onecli` needs files"),
            (&["agent-vault", "s"][..], "`agent-vault` needs files"),
        ] {
            assert_eq!(parse(bad).map(drop).unwrap_err().message(), said);
        }
        assert!(rows().all(|row| row.usage == "-" || row.usage.starts_with("keyward import ")));
        assert_eq!(rows().filter(|row| row.format == VARIABLES.format).count(), 0);
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
    fn neither_a_gcloud_login_of_a_person_nor_a_file_of_ours_is_imported() {
        let row = rows().find(|row| row.format == "service_account").unwrap();
        let text = r#"{"type":"authorized_user","refresh_token":"canary"}"#.to_owned();
        let found = service_account("g", Zeroizing::new(text), &row);
        assert!(found.candidates.is_empty());
        assert!(!found.unusable[0].1.contains("canary"));
        let text = r#"{"type":"service_account","private_key":"k"}"#.to_owned();
        assert_eq!(service_account("g", Zeroizing::new(text), &row).candidates.len(), 1);
        let ours = RUN_FILES.iter().map(|file| file.content(&[], || "k".to_owned()));
        for text in ours {
            let found = service_account("g", Zeroizing::new(text), &row);
            assert!(found.candidates.is_empty() && found.unusable[0].1.contains("Keyward"));
        }
    }
}
