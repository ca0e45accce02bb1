//! The files that environment variables name: CA bundles, client configuration, and roots as Java takes them; and
//! [`AgentEnvironment`], the variables and files that make a client use the gateway.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

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
                (TRUSTSTORE, pkcs12(bundle)),
                (NODE_SHIM, SHIM.into()),
                // Python imports a module of this name at its start.
                ("sitecustomize.py", SITECUSTOMIZE.into()),
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

/// DER tags (X.690 §8).
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const BMP_STRING: u8 = 0x1e;
const EXPLICIT_0: u8 = 0xa0;

/// 1.2.840.113549.1.7.1, `data` of PKCS #7.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.12.10.1.3, `certBag`.
const CERT_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
/// 1.2.840.113549.1.9.22.1, `x509Certificate`.
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// 1.2.840.113549.1.9.20, `friendlyName`: Java's alias, unique in the file.
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// 2.16.840.1.113894.746875.1.1, Oracle's `trustedKeyUsage`: without it Java sees no trusted entry.
const TRUSTED_KEY_USAGE: &[u8] =
    &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];
/// 2.5.29.37.0, `anyExtendedKeyUsage`.
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// The certificates of a PEM text as a trust store. What is no certificate is omitted.
pub(crate) fn pkcs12(pem: &str) -> Vec<u8> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    let bags: Vec<u8> = certificates.enumerate().flat_map(|(n, cert)| bag(n, &cert)).collect();
    let contents = content_info(&der(SEQUENCE, &[&bags]));
    let safe = content_info(&der(SEQUENCE, &[&contents]));
    der(SEQUENCE, &[&der(INTEGER, &[&[3]]), &safe])
}

/// `ContentInfo` of type `data`.
fn content_info(content: &[u8]) -> Vec<u8> {
    let octets = der(OCTET_STRING, &[content]);
    der(SEQUENCE, &[&der(OBJECT_ID, &[DATA]), &der(EXPLICIT_0, &[&octets])])
}

/// `SafeBag` with one certificate.
fn bag(number: usize, certificate: &[u8]) -> Vec<u8> {
    let octets = der(EXPLICIT_0, &[&der(OCTET_STRING, &[certificate])]);
    let value = der(SEQUENCE, &[&der(OBJECT_ID, &[X509]), &octets]);
    let name: Vec<u8> =
        format!("root-{number}").encode_utf16().flat_map(u16::to_be_bytes).collect();
    let named = attribute(FRIENDLY_NAME, &der(BMP_STRING, &[&name]));
    let trusted = attribute(TRUSTED_KEY_USAGE, &der(OBJECT_ID, &[ANY_USAGE]));
    let attributes = der(SET, &[&named, &trusted]);
    der(SEQUENCE, &[&der(OBJECT_ID, &[CERT_BAG]), &der(EXPLICIT_0, &[&value]), &attributes])
}

fn attribute(id: &[u8], value: &[u8]) -> Vec<u8> {
    der(SEQUENCE, &[&der(OBJECT_ID, &[id]), &der(SET, &[value])])
}

/// Tag, length and value (X.690 §8.1).
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut out = vec![tag];
    match u8::try_from(value.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = value.len().to_be_bytes();
            let significant: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
            // At most eight: a length is a `usize`.
            out.push(0x80 | significant.len() as u8);
            out.extend(significant);
        }
    }
    out.extend(value);
    out
}

pub(crate) struct AgentEnvironment {
    /// Names and values; those of the proxy contain the token.
    pub(crate) variables: Vec<(String, String)>,
    /// Inherited variables that the client must not have: they hold placeholders of an earlier environment.
    pub(crate) removed: Vec<String>,
    /// The files that the variables name.
    pub(crate) files: EnvironmentFiles,
    /// Notes for people.
    pub(crate) notes: Vec<String>,
}

impl AgentEnvironment {
    /// The variables by name.
    pub(crate) fn by_name(&self) -> BTreeMap<&str, &str> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

impl std::fmt::Debug for AgentEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        f.debug_struct("Environment").field("variables", &names).finish_non_exhaustive()
    }
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

    #[test]
    fn lengths_are_written_in_the_shortest_form() {
        assert_eq!(der(4, &[&[7; 3]])[..2], [4, 3]);
        assert_eq!(der(4, &[&[7; 127]])[..2], [4, 127]);
        assert_eq!(der(4, &[&[7; 128]])[..3], [4, 0x81, 128]);
        assert_eq!(der(4, &[&[7; 256]])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn every_certificate_is_in_the_file_and_nothing_else_of_the_text() {
        let ca = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap().cert;
        let text = format!("# a remark\n{}{}", ca.pem(), ca.pem());
        let file = pkcs12(&text);
        let found = file.windows(ca.der().len()).filter(|window| *window == &**ca.der()).count();
        assert_eq!(found, 2);
        assert_eq!(file[0], SEQUENCE);
        assert!(!String::from_utf8_lossy(&file).contains("remark"));
    }
}
