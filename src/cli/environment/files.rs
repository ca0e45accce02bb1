//! The files that environment variables name: CA bundles and client configuration.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::truststore;
use keyward_rules::inject::placeholder;

/// Makes clients in Node and Bun use the proxy, where these do not themselves.
const SHIM: &str = include_str!("node-shim.cjs");

/// The same for Python.
const SITECUSTOMIZE: &str = include_str!("sitecustomize.py");

/// Settings of wgetrc that would bypass the gateway, or replace the agent's token there, as wget compares names.
const WGET_OVERRIDES: &[&str] = &[
    "cacertificate",
    "cadirectory",
    "httpproxy",
    "httpsproxy",
    "noproxy",
    "proxypasswd",
    "proxypassword",
    "proxyuser",
    "useproxy",
];

/// Begins apt's setting of the roots.
const APT_CA: &str = "Acquire::https::CaInfo \"";
const APT_USER: &str = "APT::Sandbox::User \"root\";";

/// The CA and the user's own roots: for variables that add to the client's roots.
pub(super) const CA: &str = "ca.pem";
/// The same and the platform's roots: for variables that replace the client's roots.
pub(super) const BUNDLE: &str = "bundle.pem";
/// Tells wget where the bundle is.
pub(super) const WGETRC: &str = "wgetrc";
/// The same for apt.
pub(super) const APT_CONF: &str = "apt.conf";
/// For Java.
pub(super) const TRUSTSTORE: &str = "truststore.p12";
/// The script for Node, which serves Bun too.
pub(super) const NODE_SHIM: &str = "node-shim.cjs";

/// Google's libraries read it, and gcloud the next one.
pub(super) const GOOGLE: &str = "google.json";
pub(super) const GCLOUD: &str = "gcloud-token";

/// The paths of the files for the client.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    folder: PathBuf,
}

/// The files to write.
#[derive(Debug)]
pub(crate) struct EnvironmentFiles {
    /// Names and contents.
    pub(crate) all: Vec<(&'static str, Vec<u8>)>,
}

/// The modes of the directory and of its files.
#[derive(Clone, Copy, Debug)]
struct Modes {
    folder: u32,
    file: u32,
}

const FOR_OWNER: Modes = Modes { folder: 0o700, file: 0o600 };
const FOR_EVERYONE: Modes = Modes { folder: 0o755, file: 0o644 };

/// Existing files of the user, and the gateway's certificates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceFiles<'a> {
    /// The CA's certificate and the user's own roots.
    pub(crate) ca: &'a str,
    /// The same and the platform's roots.
    pub(crate) bundle: &'a str,
    /// The user's wgetrc.
    pub(crate) wgetrc: &'a str,
    /// The user's file of `APT_CONFIG`.
    pub(crate) apt: &'a str,
}

impl Paths {
    /// Files in `folder`.
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The path of this file.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// The directory, in which PHP and Python find their files.
    pub(crate) fn directory(&self) -> String {
        self.folder.to_string_lossy().into_owned()
    }
}

impl EnvironmentFiles {
    /// All files, for clients that find them at `paths`.
    pub(crate) fn new(paths: &Paths, sources: SourceFiles<'_>) -> Self {
        let SourceFiles { ca, bundle, wgetrc, apt } = sources;
        let bundle_file = paths.file(BUNDLE);
        Self {
            all: vec![
                (CA, ca.into()),
                (BUNDLE, bundle.into()),
                (WGETRC, self::wgetrc(wgetrc, &bundle_file).into()),
                (APT_CONF, self::apt(apt, &bundle_file).into()),
                ("php.ini", php(&bundle_file).into()),
                (TRUSTSTORE, truststore::pkcs12(bundle)),
                (NODE_SHIM, SHIM.into()),
                // Python imports a module of this name at its start.
                ("sitecustomize.py", SITECUSTOMIZE.into()),
                (GOOGLE, google().into()),
                (GCLOUD, placeholder::OF_ANY_CONNECTION.into()),
            ],
        }
    }

    /// Writes them into `folder`, which is created for its owner only. Each is replaced atomically, so that
    /// clients never read half a file.
    ///
    /// # Errors
    /// When it cannot be written, or its path is not UTF-8: the variables would name other files.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        if folder.to_str().is_none() {
            let why = "its path is not UTF-8, so no variable can name the files in it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.write_as(folder, FOR_OWNER)
    }

    /// The same for containers, whose users may be others. The files must have nothing of the user's own files.
    pub(crate) fn write_for_containers(&self, folder: &Path) -> io::Result<()> {
        self.write_as(folder, FOR_EVERYONE)
    }

    fn write_as(&self, folder: &Path, modes: Modes) -> io::Result<()> {
        // A directory that exists keeps its mode: `--files` may name one that has other files.
        let is_new = !folder.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // By `chmod`, which does not depend on the umask.
        if is_new {
            std::fs::set_permissions(folder, Permissions::from_mode(modes.folder))?;
        }
        for (name, content) in &self.all {
            let fresh = folder.join(format!(".{name}.{}", std::process::id()));
            // Another user's directory, in which root writes, could have a link of that name.
            match std::fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(content)?;
            file.set_permissions(Permissions::from_mode(modes.file))?;
            std::fs::rename(&fresh, folder.join(name))?;
        }
        Ok(())
    }
}

/// The user's lines without those that would bypass the gateway, and ours.
fn wgetrc(theirs: &str, bundle: &str) -> String {
    let overrides = |line: &&str| {
        let name = line.split('=').next().unwrap_or_default();
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        !WGET_OVERRIDES.contains(&name.to_ascii_lowercase().as_str())
    };
    let kept: String = theirs.lines().filter(overrides).map(|line| format!("{line}\n")).collect();
    format!("{kept}ca_certificate = {bundle}\n")
}

/// The user's lines and ours, which replace those of an earlier file of ours. apt's workers drop root for a user that cannot
/// enter the directory of these files, so they stay root if apt runs as root.
fn apt(theirs: &str, bundle: &str) -> String {
    let ours = [format!("{APT_CA}{bundle}\";"), APT_USER.to_owned()];
    let is_ours = |line: &&str| {
        *line == APT_USER || (line.starts_with(APT_CA) && line.matches('"').count() == 2)
    };
    let kept = theirs.lines().filter(|line| !is_ours(line));
    kept.chain(ours.iter().map(String::as_str)).map(|line| format!("{line}\n")).collect()
}

/// For PHP, whose curl reads no variable for roots, and whose streams prefer such a line of the user's own.
fn php(bundle: &str) -> String {
    format!("curl.cainfo = \"{bundle}\"\nopenssl.cafile = \"{bundle}\"\n")
}

/// Application default credentials (<https://google.aip.dev/auth/4113>). The libraries request a token with the refresh token
/// in it, which the gateway answers with a placeholder.
fn google() -> String {
    let secret = placeholder::OF_ANY_CONNECTION;
    let credentials = serde_json::json!({
        "type": "authorized_user",
        "client_id": "keyward",
        "client_secret": secret,
        "refresh_token": secret,
    });
    credentials.to_string()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    const SOURCES: SourceFiles<'_> =
        SourceFiles { ca: "ca", bundle: "bundle", wgetrc: "", apt: "" };

    #[test]
    fn a_folder_that_no_variable_can_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(OsStr::from_bytes(b"caf\xe9"));
        let files = EnvironmentFiles::new(&Paths::new(&folder), SOURCES);
        assert!(files.write(&folder).unwrap_err().to_string().contains("not UTF-8"));
        assert!(!folder.exists());
    }

    #[test]
    fn files_are_readable_only_by_their_owner_and_leave_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a");
        let files = EnvironmentFiles::new(&Paths::new(&folder), SOURCES);
        for _ in 0..2 {
            files.write(&folder).unwrap();
        }
        let found: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(found.len(), files.all.len());
        for path in found.iter().chain([&folder]) {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
    }

    #[test]
    fn a_symbolic_link_at_a_temporary_path_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, theirs) = (dir.path().join("a"), dir.path().join("theirs"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&theirs, "stays").unwrap();
        let link = folder.join(format!(".ca.pem.{}", std::process::id()));
        std::os::unix::fs::symlink(&theirs, link).unwrap();
        EnvironmentFiles::new(&Paths::new(&folder), SOURCES).write(&folder).unwrap();
        assert_eq!(std::fs::read_to_string(theirs).unwrap(), "stays");
        assert_eq!(std::fs::read_to_string(folder.join("ca.pem")).unwrap(), "ca");
    }

    #[test]
    fn any_user_of_a_container_reads_its_files_and_a_directory_that_exists_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (new, private) = (dir.path().join("new"), dir.path().join("private"));
        DirBuilder::new().mode(0o700).create(&private).unwrap();
        for (folder, expected) in [(&new, 0o755), (&private, 0o700)] {
            let files = EnvironmentFiles::new(&Paths::new(folder), SOURCES);
            files.write_for_containers(folder).unwrap();
            assert_eq!(mode(folder), expected, "{}", folder.display());
            for (name, _) in &files.all {
                assert_eq!(mode(&folder.join(name)), 0o644, "{name}");
            }
        }
    }

    #[test]
    fn a_wgetrc_keeps_its_lines_except_those_that_bypass_the_gateway() {
        let theirs = "tries = 3\nHTTPS-Proxy=http://x\nca_certificate = /x\nuse_proxy = off\n\
                      proxy_user = corp\nProxy-Password=canary\nproxy_passwd = canary\n# a";
        assert_eq!(wgetrc(theirs, "/b.pem"), "tries = 3\n# a\nca_certificate = /b.pem\n");
    }

    #[test]
    fn apt_keeps_the_lines_of_its_own_file() {
        let text = apt("A \"b\";", "/b.pem");
        assert!(text.starts_with("A \"b\";\nAcquire::https::CaInfo \"/b.pem\";\n"), "{text}");
    }

    #[test]
    fn lines_of_an_earlier_file_for_apt_are_replaced() {
        let once = apt("A \"b\";", "/b.pem");
        assert_eq!(apt(&apt("A \"b\";", "/earlier.pem"), "/b.pem"), once);
    }
}
