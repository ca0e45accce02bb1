//! The certificate authority as clients and operators see it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The CA in use.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct CaView {
    /// SHA-256 of the current certificate.
    pub fingerprint: String,
    /// When it ends.
    pub expires: Timestamp,
    /// Until when clients of the CA before are served; `null`: there is none before.
    pub overlap_until: Option<Timestamp>,
    /// Whether Keyward made it, and so can rotate it.
    pub made_here: bool,
    /// What somebody should do soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// The current certificate first.
    pub certificates: Vec<CertificateView>,
    /// What clients are to trust: `/ca.pem`.
    pub pem: String,
}

/// A certificate of the CA.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct CertificateView {
    /// `current`, `former` (of the CA before) or `chain`.
    pub role: CertificateRole,
    /// Its subject.
    pub subject: String,
    /// SHA-256.
    pub fingerprint: String,
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateRole {
    /// It signs leaves.
    Current,
    /// Clients may still trust it.
    Former,
    /// It stands between the current one and a root.
    Chain,
}

/// How a new CA follows.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RotateCa {
    /// How long clients of the present one are served, `30d`, at most until its end; 30 days when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// Not at all: the present one may be in wrong hands.
    #[serde(default)]
    pub no_overlap: bool,
}
