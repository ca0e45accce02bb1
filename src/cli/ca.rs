//! `keyward ca`: the certificates that agents must trust.

mod out;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::out::To;
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
        to.give(global.json, &certificates, &certificates.pem)
    }
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
    fn the_fingerprint_is_the_digest_of_the_der() {
        // `abc`, whose SHA-256 is the example of FIPS 180-4.
        let pem = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        let shown = fingerprint(pem).unwrap();
        assert!(shown.starts_with("BA:78:16:BF:8F:01:CF:EA"), "{shown}");
        assert_eq!(shown.len(), 32 * 3 - 1);
    }
}
