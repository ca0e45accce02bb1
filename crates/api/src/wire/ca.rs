//! The certificate authority as clients and operators see it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use keyward_proxy::ca::authority::{
    CertificateInfo as CertificateView, Role as CertificateRole,
};

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
    /// What the operator should do soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// The current certificate first.
    pub certificates: Vec<CertificateView>,
    /// What clients are to trust: `/ca.pem`.
    pub pem: String,
}

/// How the CA is replaced.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RotateCa {
    /// How long clients of the present one are served, `30d`, at most until its end; 30 days when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// No overlap: the present one may be compromised.
    #[serde(default)]
    pub no_overlap: bool,
}
