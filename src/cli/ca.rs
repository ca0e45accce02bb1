//! `keyward ca`: prints the certificates that agents must trust, and rotates the CA.

mod trust;

use clap::Subcommand;
use serde::Serialize;

use super::client::Client;
use super::failure::Failure;
use super::files::CertificateOutput;
use super::output;
use super::settings::Global;
use super::terminal::confirm::Confirm;
use super::terminal::table::moment;
use keyward_api::wire::{CaView, RotateCa};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// print the CA certificate (PEM), and during an overlap the former one
    #[command(after_help = "examples:\n  keyward ca show > keyward-ca.pem")]
    Show(CertificateOutput),
    /// print the platform's root certificates and the CA certificate as one PEM
    #[command(after_help = "examples:\n  keyward ca bundle > keyward-bundle.pem\n  \
                            export SSL_CERT_FILE=\"$PWD/keyward-bundle.pem\"")]
    Bundle(CertificateOutput),
    /// replace the CA without interrupting requests, and destroy the old key
    #[command(after_help = ROTATE_HELP)]
    Rotate {
        /// how long to serve clients that trust only the old CA; default: 30d
        #[arg(long, value_name = "TIME", conflicts_with = "no_overlap")]
        overlap: Option<String>,
        /// drop the old CA at once, for example because its key may have leaked
        #[arg(long)]
        no_overlap: bool,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// add the CA to the system's trust store (Debian and derived systems)
    #[command(after_help = trust::HELP)]
    Trust(trust::Trust),
}

const ROTATE_HELP: &str = "\
During the overlap, clients that trust the old CA and clients that trust the new
CA both work. Distribute the new CA before the overlap ends: `keyward ca show`,
`keyward ca bundle`, /ca.pem, /bundle.pem

examples:
  keyward ca rotate
  keyward ca rotate --overlap 7d
  keyward ca rotate --no-overlap";

#[derive(Debug, Serialize)]
struct Bundle {
    pem: String,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        match self {
            Self::Show(to) => {
                let ca: CaView = client.get("/api/v1/ca").await?;
                if !global.json {
                    // Not on standard output, which is often redirected into a file.
                    notes(&ca).iter().for_each(|note| output::note(note));
                }
                to.give(global.json, &ca, &ca.pem)
            }
            Self::Bundle(to) => {
                let bundle = Bundle { pem: client.text("/bundle.pem").await? };
                to.give(global.json, &bundle, &bundle.pem)
            }
            Self::Trust(trust) => trust.run(global, &client.get::<CaView>("/api/v1/ca").await?),
            Self::Rotate { overlap, no_overlap, confirm } => {
                confirm.ask("replace the CA", &[lost(overlap.as_deref(), no_overlap)])?;
                let asked = RotateCa { overlap, no_overlap };
                let ca: CaView = client.post("/api/v1/ca/rotate", &asked).await?;
                output::show(global.json, &ca, rotated)
            }
        }
    }
}

/// The consequence of a rotation, for the confirmation.
fn lost(overlap: Option<&str>, no_overlap: bool) -> String {
    match (no_overlap, overlap) {
        (true, _) => "programs that trust only the present CA are refused at once".to_owned(),
        (false, overlap) => format!(
            "programs that trust only the present CA are refused after {}",
            overlap.unwrap_or("30d")
        ),
    }
}

/// The certificates, and notes for people.
fn notes(ca: &CaView) -> Vec<String> {
    let mut notes: Vec<String> = ca
        .certificates
        .iter()
        .map(|certificate| {
            let role = output::word(&certificate.role);
            let (subject, until) = (&certificate.subject, moment(certificate.until));
            format!("{role}: {subject}, until {until}\n  sha256 {}", certificate.fingerprint)
        })
        .collect();
    notes.extend(ca.overlap_until.map(|until| {
        format!("clients that trust only the former CA are served until {}", moment(until))
    }));
    notes.extend(ca.notice.as_ref().map(|notice| format!("warning: {notice}")));
    notes
}

fn rotated(ca: &CaView) -> String {
    let clients = match ca.overlap_until {
        Some(until) => format!(
            "clients that trust only the old CA are served until {}: give them the new CA before",
            moment(until)
        ),
        None => "clients that trust only the old CA are refused: give them the new CA".to_owned(),
    };
    format!(
        "a new CA signs from now on; the key of the old CA is destroyed\nsha256 {}\n{clients}\n",
        ca.fingerprint
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use keyward_api::wire::{CertificateRole, CertificateView};

    fn certificate(role: CertificateRole) -> CertificateView {
        CertificateView {
            role,
            subject: "CN=Keyward local CA 00000001".to_owned(),
            fingerprint: "AB:CD".to_owned(),
            from: Timestamp::UNIX_EPOCH,
            until: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn both_certificates_the_overlap_and_the_expiry_warning_are_shown() {
        let ca = CaView {
            fingerprint: "AB:CD".to_owned(),
            expires: Timestamp::UNIX_EPOCH,
            overlap_until: Some(Timestamp::UNIX_EPOCH),
            made_here: true,
            notice: Some("it ends".to_owned()),
            certificates: [CertificateRole::Current, CertificateRole::Former]
                .map(certificate)
                .into(),
            pem: "pem".to_owned(),
        };
        insta::assert_snapshot!(notes(&ca).join("\n"), @r"
        current: CN=Keyward local CA 00000001, until 1970-01-01T00:00:00Z
          sha256 AB:CD
        former: CN=Keyward local CA 00000001, until 1970-01-01T00:00:00Z
          sha256 AB:CD
        clients that trust only the former CA are served until 1970-01-01T00:00:00Z
        warning: it ends
        ");
        let gone = CaView { overlap_until: None, ..ca };
        insta::assert_snapshot!(rotated(&gone), @r"
        a new CA signs from now on; the key of the old CA is destroyed
        sha256 AB:CD
        clients that trust only the old CA are refused: give them the new CA
        ");
    }
}
