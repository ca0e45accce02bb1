//! The public key of a certificate that a service publishes for its signatures. It is trusted because it was fetched
//! over verified TLS from the service's own host; its names and validity are checked too.

use aws_lc_rs::signature::{ParsedPublicKey, VerificationAlgorithm};
use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use crate::Rejection;

/// What a service has signed.
pub(super) struct Signature<'s> {
    pub(super) algorithm: &'static dyn VerificationAlgorithm,
    pub(super) message: &'s [u8],
    pub(super) bytes: &'s [u8],
}

impl Signature<'_> {
    /// Verifies the signature by the first certificate of a PEM document, which must be valid now and for one of the names.
    pub(super) fn verify(
        &self,
        pem: &[u8],
        is_name: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let first = Pem::iter_from_buffer(pem).next().and_then(Result::ok);
        let first = first.ok_or(Rejection::KeyStrange)?;
        let certificate = first.parse_x509().map_err(|_| Rejection::KeyStrange)?;
        let validity = certificate.validity();
        let is_current = (validity.not_before.timestamp()..=validity.not_after.timestamp())
            .contains(&now.as_second());
        if !is_current || !names(&certificate).iter().any(|name| is_name(name)) {
            return Err(Rejection::KeyStrange);
        }
        let key = &certificate.public_key().subject_public_key.data;
        let key = ParsedPublicKey::new(self.algorithm, key).map_err(|_| Rejection::KeyStrange)?;
        key.verify_sig(self.message, self.bytes).map_err(|_| Rejection::SignatureWrong)
    }
}

/// The names of hosts in a certificate; its common name only if there are none, as in RFC 6125 §6.4.4.
fn names<'c>(certificate: &'c X509Certificate<'_>) -> Vec<&'c str> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.into_iter().flat_map(|found| &found.value.general_names);
    let hosts: Vec<&str> = alternative
        .filter_map(|name| match name {
            GeneralName::DNSName(host) => Some(*host),
            _ => None,
        })
        .collect();
    match hosts.is_empty() {
        true => {
            let common = certificate.subject().iter_common_name();
            common.filter_map(|name| name.as_str().ok()).collect()
        }
        false => hosts,
    }
}
