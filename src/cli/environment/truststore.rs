//! Roots as Java takes them: a PKCS #12 file (RFC 7292) of certificates in the clear, without a
//! password and so without an integrity check, which certificates alone do not need. This is what
//! the JDK writes itself with `keystore.pkcs12.certProtectionAlgorithm=NONE`. Writing one is six
//! nested DER values; crates for it bring ciphers for the cases that are none here.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

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

#[cfg(test)]
mod tests {
    use super::*;

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
