//! Finds client settings that override the variables of `keyward run` and `keyward env`. Settings that the
//! variables override (git's `http.sslCAInfo`, npm's `cafile`, pip's `cert`, cargo's `http.cainfo`, all of
//! wgetrc) are ignored.

use std::path::{Path, PathBuf};

use super::report::DoctorReport;

/// Longer files are cut.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// A client with configuration files.
struct ClientFiles {
    id: &'static str,
    files: fn(&ConfigDirs) -> Vec<PathBuf>,
    /// Section, or the section's first word; key; and what it sets.
    settings: &'static [(&'static str, &'static str, SettingKind)],
    /// Characters that begin a comment.
    comments: &'static [char],
}

/// What a setting changes, and when that is reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SettingKind {
    /// Another proxy.
    Proxy,
    /// No verification, if it has this value.
    Off(&'static str),
    Roots,
    /// Hosts that are not verified.
    Trusted,
}

/// The directories that clients read files from.
pub(super) struct ConfigDirs {
    home: PathBuf,
    config: PathBuf,
    current: PathBuf,
    system: PathBuf,
    variable: fn(&str) -> Option<PathBuf>,
}

/// A setting that overrides the environment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Setting {
    /// The client's id.
    pub(super) client: &'static str,
    pub(super) kind: SettingKind,
    pub(super) message: String,
    pub(super) hint: String,
}

struct SettingLine<'a> {
    line: usize,
    section: String,
    key: String,
    value: &'a str,
}

const CLIENTS: &[ClientFiles] = &[
    ClientFiles {
        id: "git",
        files: git_files,
        settings: &[
            ("http", "proxy", SettingKind::Proxy),
            ("remote", "proxy", SettingKind::Proxy),
            ("http", "sslverify", SettingKind::Off("false")),
        ],
        comments: &['#', ';'],
    },
    ClientFiles {
        id: "npm",
        files: npm_files,
        settings: &[
            ("", "proxy", SettingKind::Proxy),
            ("", "https-proxy", SettingKind::Proxy),
            ("", "strict-ssl", SettingKind::Off("false")),
        ],
        comments: &['#', ';'],
    },
    ClientFiles {
        id: "pip",
        files: pip_files,
        settings: &[("", "proxy", SettingKind::Proxy), ("", "trusted-host", SettingKind::Trusted)],
        comments: &['#', ';'],
    },
    ClientFiles {
        id: "curl",
        files: curl_files,
        settings: &[
            ("", "proxy", SettingKind::Proxy),
            ("", "x", SettingKind::Proxy),
            ("", "cacert", SettingKind::Roots),
            ("", "insecure", SettingKind::Off("")),
            ("", "k", SettingKind::Off("")),
        ],
        comments: &['#'],
    },
    ClientFiles {
        id: "cargo",
        files: cargo_files,
        settings: &[("http", "proxy", SettingKind::Proxy), ("", "http.proxy", SettingKind::Proxy)],
        comments: &['#'],
    },
    ClientFiles {
        id: "gradle",
        files: gradle_files,
        settings: &[
            ("", "systemprop.http.proxyhost", SettingKind::Proxy),
            ("", "systemprop.https.proxyhost", SettingKind::Proxy),
            ("", "systemprop.https.proxyport", SettingKind::Proxy),
            ("", "systemprop.javax.net.ssl.truststore", SettingKind::Roots),
        ],
        comments: &['#', '!'],
    },
];

/// Checks the files of all clients.
pub(super) fn check(report: &mut DoctorReport) {
    let found = found(&ConfigDirs::of_process());
    if found.is_empty() {
        let message = "no file of git, npm, pip, curl, cargo or gradle makes it bypass the gateway";
        report.ok("clients", message);
    }
    for Setting { client, message, hint, .. } in found {
        report.warn(client, message, hint);
    }
}

/// All settings that override the environment, in all files.
pub(super) fn found(dirs: &ConfigDirs) -> Vec<Setting> {
    let mut found = Vec::new();
    for client in CLIENTS {
        let mut files = (client.files)(dirs);
        files.dedup();
        for file in files {
            let Ok(mut bytes) = std::fs::read(&file) else { continue };
            bytes.truncate(FILE_BYTES_MAX);
            found.extend(of_file(client, &file, &String::from_utf8_lossy(&bytes)));
        }
    }
    found
}

fn of_file(client: &ClientFiles, file: &Path, text: &str) -> Vec<Setting> {
    let setting = |entry: SettingLine<'_>| {
        let fits = |(section, key, kind): &&(&str, &str, SettingKind)| {
            let of_section = entry.section.split([' ', '.']).next().unwrap_or_default();
            (section.is_empty() || *section == of_section) && *key == entry.key && kind.is(&entry)
        };
        let (_, _, kind) = client.settings.iter().find(fits)?;
        Some(kind.setting(client.id, file, &entry))
    };
    entries(text, client.comments).into_iter().filter_map(setting).collect()
}

/// Every `key = value`, `key: value` and `key value` with its section. Sections and keys are in lower
/// case. Other differences of the grammars are ignored.
fn entries<'a>(text: &'a str, comments: &[char]) -> Vec<SettingLine<'a>> {
    let mut section = String::new();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(comments) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = name.trim().to_ascii_lowercase();
            continue;
        }
        let line = line.trim_start_matches('-');
        let end = line.find(|c: char| c == '=' || c == ':' || c.is_whitespace());
        let (key, value) = line.split_at(end.unwrap_or(line.len()));
        let value = value.trim_start_matches([' ', '\t', '=', ':']).trim();
        let value = value.trim_matches(['"', '\'']);
        let (section, key) = (section.clone(), key.trim().to_ascii_lowercase());
        found.push(SettingLine { line: number + 1, section, key, value });
    }
    found
}

impl SettingKind {
    fn is(self, entry: &SettingLine<'_>) -> bool {
        match self {
            // An empty value, and npm's `null`, mean no proxy.
            Self::Proxy => !matches!(entry.value, "" | "null" | "false"),
            Self::Off("") => entry.value.is_empty(),
            Self::Off(off) => entry.value.eq_ignore_ascii_case(off),
            Self::Roots | Self::Trusted => !entry.value.is_empty(),
        }
    }

    /// Without the value: a proxy's URL may hold a password.
    fn setting(self, client: &'static str, file: &Path, entry: &SettingLine<'_>) -> Setting {
        let (file, line, key) = (file.display(), entry.line, &entry.key);
        let key = match &*entry.section {
            "" => key.clone(),
            // A part may be a URL with a password.
            section => format!("{}.{key}", section.split([' ', '.']).next().unwrap_or_default()),
        };
        let says = match self {
            Self::Proxy => {
                format!("{client} prefers it to the environment and bypasses the gateway")
            }
            Self::Off(_) => format!("{client} then does not verify the gateway"),
            Self::Roots => format!("{client} then does not trust the gateway's CA"),
            Self::Trusted => format!("{client} then does not verify those hosts"),
        };
        Setting {
            client,
            kind: self,
            message: format!("{file}:{line} sets `{key}`: {says}"),
            hint: format!("remove line {line} of {file}"),
        }
    }
}

impl ConfigDirs {
    pub(super) fn of_process() -> Self {
        let variable: fn(&str) -> Option<PathBuf> =
            |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = variable("HOME").unwrap_or_default();
        let config = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let current = std::env::current_dir().unwrap_or_default();
        Self { home, config, current, system: PathBuf::from("/etc"), variable }
    }

    /// The current directory and those above it.
    fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.current.ancestors()
    }
}

fn git_files(dirs: &ConfigDirs) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if (dirs.variable)("GIT_CONFIG_NOSYSTEM").is_none() {
        files.push(dirs.system.join("gitconfig"));
    }
    match (dirs.variable)("GIT_CONFIG_GLOBAL") {
        Some(file) => files.push(file),
        None => files.extend([dirs.config.join("git/config"), dirs.home.join(".gitconfig")]),
    }
    files.extend(dirs.upwards().map(|at| at.join(".git/config")).find(|file| file.exists()));
    files
}

fn npm_files(dirs: &ConfigDirs) -> Vec<PathBuf> {
    let user = (dirs.variable)("npm_config_userconfig");
    let user = user.unwrap_or_else(|| dirs.home.join(".npmrc"));
    let global = (dirs.variable)("npm_config_globalconfig");
    let global = global.unwrap_or_else(|| dirs.system.join("npmrc"));
    let project = dirs.upwards().find(|at| at.join("package.json").exists());
    let project = project.unwrap_or(&dirs.current).join(".npmrc");
    let mut files = vec![global, user];
    if !files.contains(&project) {
        files.push(project);
    }
    files
}

fn pip_files(dirs: &ConfigDirs) -> Vec<PathBuf> {
    let mut files = vec![
        dirs.system.join("pip.conf"),
        dirs.system.join("xdg/pip/pip.conf"),
        dirs.home.join(".pip/pip.conf"),
        dirs.config.join("pip/pip.conf"),
    ];
    files.extend((dirs.variable)("VIRTUAL_ENV").map(|at| at.join("pip.conf")));
    files.extend((dirs.variable)("PIP_CONFIG_FILE"));
    files
}

fn curl_files(dirs: &ConfigDirs) -> Vec<PathBuf> {
    let home = (dirs.variable)("CURL_HOME").unwrap_or_else(|| dirs.home.clone());
    // curl reads the first that exists.
    let files = [home.join(".curlrc"), dirs.config.join("curlrc")];
    files.into_iter().find(|file| file.exists()).into_iter().collect()
}

fn cargo_files(dirs: &ConfigDirs) -> Vec<PathBuf> {
    let home = (dirs.variable)("CARGO_HOME").unwrap_or_else(|| dirs.home.join(".cargo"));
    let of = |folder: &Path| [folder.join("config"), folder.join("config.toml")];
    let mut files: Vec<PathBuf> =
        dirs.upwards().flat_map(|at| of(&at.join(".cargo"))).chain(of(&home)).collect();
    files.sort();
    files
}

fn gradle_files(dirs: &ConfigDirs) -> Vec<PathBuf> {
    let home = (dirs.variable)("GRADLE_USER_HOME").unwrap_or_else(|| dirs.home.join(".gradle"));
    let project = dirs.upwards().map(|at| at.join("gradle.properties"));
    let mut files: Vec<_> = project.filter(|file| file.exists()).collect();
    files.insert(0, home.join("gradle.properties"));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_in(name: &str, text: &str) -> Vec<String> {
        let client = CLIENTS.iter().find(|client| client.id == name).unwrap();
        let found = of_file(client, Path::new("/f"), text);
        assert!(found.iter().all(|setting| !setting.message.contains("canary")), "{found:?}");
        let short = |s: Setting| s.message.split(": ").next().unwrap_or_default().to_owned();
        found.into_iter().map(short).collect()
    }

    #[test]
    fn settings_that_override_the_environment_are_reported_with_their_line() {
        let table = [
            (
                "git",
                "[user]\n\tname = x\n[http]\n\tproxy = http://u:canary@p:1",
                "/f:4 sets `http.proxy`",
            ),
            (
                "git",
                "[HTTP \"https://u:canary@x\"]\nsslVerify = False",
                "/f:2 sets `http.sslverify`",
            ),
            ("git", "[remote \"origin\"]\nproxy=canary", "/f:2 sets `remote.proxy`"),
            ("npm", "; a\nhttps-proxy=http://canary", "/f:2 sets `https-proxy`"),
            ("npm", "strict-ssl = false", "/f:1 sets `strict-ssl`"),
            ("pip", "[global]\nproxy: canary", "/f:2 sets `global.proxy`"),
            ("pip", "[install]\ntrusted-host = canary", "/f:2 sets `install.trusted-host`"),
            ("curl", "proxy \"canary\"", "/f:1 sets `proxy`"),
            ("curl", "-x canary", "/f:1 sets `x`"),
            ("curl", "--insecure", "/f:1 sets `insecure`"),
            ("curl", "cacert = canary", "/f:1 sets `cacert`"),
            ("cargo", "[http]\nproxy = \"canary\"", "/f:2 sets `http.proxy`"),
            ("cargo", "http.proxy = 'canary'", "/f:1 sets `http.proxy`"),
            (
                "gradle",
                "# a\nsystemProp.https.proxyHost=canary",
                "/f:2 sets `systemprop.https.proxyhost`",
            ),
            (
                "gradle",
                "systemProp.javax.net.ssl.trustStore : canary",
                "/f:1 sets `systemprop.javax.net.ssl.truststore`",
            ),
        ];
        for (client, text, expected) in table {
            assert_eq!(found_in(client, text), [expected], "{client}: {text}");
        }
    }

    #[test]
    fn settings_that_override_nothing_are_not_reported() {
        let table = [
            ("git", "[http]\nsslCAInfo = /x\nproxy =\n[core]\nproxy = x\n# [http]\n#proxy = x"),
            ("npm", "cafile=/x\nproxy=null\nstrict-ssl=true\n//registry/:_authToken=canary"),
            ("pip", "[global]\ncert = /x\nindex-url = https://u:canary@x/"),
            ("curl", "silent\n# proxy = x\nuser-agent = \"proxy\""),
            ("cargo", "[http]\ncainfo = \"/x\"\n[net]\nproxy = \"x\""),
            (
                "gradle",
                "org.gradle.daemon=true\nsystemProp.https.proxyUser=canary\n!systemProp.x=y",
            ),
        ];
        for (client, text) in table {
            assert_eq!(found_in(client, text), [""; 0], "{client}");
        }
    }

    #[test]
    fn files_are_searched_in_the_directories_that_their_clients_read() {
        let dir = tempfile::tempdir().unwrap();
        let (home, current) = (dir.path().join("home"), dir.path().join("home/a/b"));
        for (file, text) in [
            (home.join(".gitconfig"), "[http]\nproxy = x"),
            (home.join(".npmrc"), "proxy=x"),
            (home.join(".config/pip/pip.conf"), "[global]\nproxy = x"),
            (home.join(".curlrc"), "proxy=x"),
            (home.join("a/.cargo/config.toml"), "[http]\nproxy=\"x\""),
            (home.join("a/.git/config"), "[http]\nproxy = x"),
            (current.join(".npmrc"), "proxy=x"),
            (home.join(".gradle/gradle.properties"), "systemProp.https.proxyHost=x"),
            (home.join("a/gradle.properties"), "systemProp.https.proxyPort=1"),
        ] {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        std::fs::create_dir_all(&current).unwrap();
        let config = home.join(".config");
        let system = dir.path().join("etc");
        let dirs = ConfigDirs { home, config, current, system, variable: |_| None };
        let found: Vec<_> = found(&dirs).into_iter().map(|setting| setting.client).collect();
        let expected = ["git", "git", "npm", "npm", "pip", "curl", "cargo", "gradle", "gradle"];
        assert_eq!(found, expected);
    }
}
