//! `keyward ca`: the certificates that agents must trust.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::client::Client;
use super::failure::Failure;
use super::output;
use super::settings::Global;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// print the CA certificate (PEM)
    #[command(after_help = "examples:\n  keyward ca show > keyward-ca.pem")]
    Show(To),
    /// print the platform's roots and the CA certificate in one PEM
    #[command(after_help = "examples:\n  keyward ca bundle > keyward-bundle.pem\n  \
                            export SSL_CERT_FILE=\"$PWD/keyward-bundle.pem\"")]
    Bundle(To),
}

/// Where the output goes. A container without a shell cannot redirect it.
#[derive(Debug, Args)]
pub(crate) struct To {
    /// write into this file, which everyone may read, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Certificates {
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    pem: String,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        let (certificates, to) = match self {
            Self::Show(to) => {
                let pem = client.text("/ca.pem").await?;
                (Certificates { fingerprint: fingerprint(&pem), pem }, to)
            }
            Self::Bundle(to) => {
                (Certificates { fingerprint: None, pem: client.text("/bundle.pem").await? }, to)
            }
        };
        if let (false, Some(fingerprint)) = (global.json, &certificates.fingerprint) {
            // Not on standard output, which goes into a file.
            output::note(&format!("sha256 {fingerprint}"));
        }
        match to.out {
            None => output::show(global.json, &certificates, |shown| shown.pem.clone()),
            Some(file) => replace(&file, certificates.pem.as_bytes()).map_err(|error| {
                Failure::failed(&format!("cannot write {}", file.display()), &error)
            }),
        }
    }
}

/// Writes a file whole or not at all: clients may be reading the old one.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let staged = folder.unwrap_or(Path::new(".")).join(format!(".{name}.{}", std::process::id()));
    let written =
        OpenOptions::new().write(true).create_new(true).open(&staged).and_then(|mut to| {
            to.write_all(content)?;
            // Whatever the umask: certificates are public, and other users are to read them.
            to.set_permissions(Permissions::from_mode(0o644))?;
            to.sync_all()?;
            fs::rename(&staged, file)
        });
    if written.is_err() {
        // Of no use to anybody; that it cannot be removed is the smaller trouble.
        drop(fs::remove_file(&staged));
    }
    written
}

/// SHA-256 of the first certificate's DER, as browsers and `openssl x509 -fingerprint` show it.
fn fingerprint(pem: &str) -> Option<String> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let coded: String = body.split_ascii_whitespace().collect();
    let digest = Sha256::digest(STANDARD.decode(coded).ok()?);
    let pairs: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    Some(pairs.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_fingerprint() {
        for bad in [
            "",
            "-----BEGIN CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
        ] {
            assert_eq!(fingerprint(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_for_everyone_to_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(replace(&dir.path().join("none/ca.pem"), b"new").is_err());
        let file = dir.path().join("ca.pem");
        fs::write(&file, "something longer").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        replace(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn the_fingerprint_is_the_digest_of_the_der() {
        // `abc`, whose SHA-256 is the example of FIPS 180-4.
        let pem = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        let shown = fingerprint(pem).unwrap();
        assert!(shown.starts_with("BA:78:16:BF:8F:01:CF:EA"), "{shown}");
        assert_eq!(shown.len(), 32 * 3 - 1);
    }
}
