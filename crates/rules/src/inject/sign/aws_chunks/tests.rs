//! Chunks by Version 4A: such signatures differ each time, so ours are verified with the public key that AWS publishes
//! for the keys of its examples (`aws-c-auth`, tests of chunked uploads).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::aws_sigv4::AwsKeys;
use super::*;
use crate::inject::sign::aws_request::{SignedAwsRequest, Unsigned};
use crate::inject::sign::error::SignError;
use keyward_base::secret::Secret;

const CHUNKS: &str = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD";
const SCOPE: &str = "20130524/s3/aws4_request";
const STAMP: &str = "20130524T000000Z";

/// An upload whose head the agent signed by this version.
fn signed(algorithm: &str, word: &str) -> Result<(SignedAwsRequest, String), SignError> {
    let keys = AwsKeys {
        access_key_id: Secret::from("AKIAIOSFODNN7EXAMPLE".to_owned()),
        secret_access_key: Secret::from("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
        session_token: None,
        region: None,
        service: None,
    };
    let scope = if algorithm == "AWS4-HMAC-SHA256" { "us-east-1/s3" } else { "s3" };
    let authorization = format!(
        "{algorithm} Credential=AKIAkwph/20200101/{scope}/aws4_request, SignedHeaders=host, Signature=00ff"
    );
    let mut fields = HeaderMap::new();
    for (name, value) in [
        ("authorization", &*authorization),
        ("x-amz-content-sha256", word),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-region-set", "*"),
    ] {
        fields.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let host = "m1.mrap.accesspoint.s3-global.amazonaws.com";
    let plan = keys.read(host, &fields, None)?;
    let unsigned = Unsigned {
        method: "PUT",
        authority: host,
        path: "/chunkObject.txt",
        fields: &mut fields,
        body: None,
        now: "2013-05-24T00:00:00Z".parse().unwrap(),
    };
    let signed = keys.sign(&plan, unsigned)?;
    assert_eq!(fields["x-amz-content-sha256"], word);
    let value = fields["authorization"].to_str().unwrap();
    Ok((signed, value.split_once("Signature=").unwrap().1.to_owned()))
}

/// A body of 66,560 letters, with the agent's signatures of this length.
fn body(length: usize, trailer: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for bytes in [65_536_usize, 1024, 0] {
        body.extend(format!("{bytes:x};chunk-signature={}\r\n", "0".repeat(length)).into_bytes());
        body.extend(std::iter::repeat_n(b'a', bytes));
        body.extend(if bytes == 0 { b"" } else { &b"\r\n"[..] });
    }
    body.extend(if trailer.is_empty() { b"\r\n" } else { trailer.as_bytes() });
    body
}

fn verify(of: &str, previous: &str, hashes: &str, signature: &str) {
    let (x, y) = (
        "18b7d04643359f6ec270dcbab8dce6d169d66ddc9778c75cfb08dfdb701637ab",
        "fa36b35e4fe67e3112261d2e17a956ef85b06e44712d2850bcd3c2161e9993f2",
    );
    let text = format!("AWS4-ECDSA-P256-SHA256-{of}\n{STAMP}\n{SCOPE}\n{previous}\n{hashes}");
    let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, bytes(&format!("04{x}{y}")));
    key.verify(text.as_bytes(), &bytes(signature)).expect("a signature of the text");
}

/// The signatures of a body without what fills them, in order.
fn signatures(out: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(out);
    let found = text.split("-signature").skip(1).map(|rest| rest[1..145].to_owned());
    found.map(|filled| filled.trim_end_matches('*').to_owned()).collect()
}

/// The bytes that are sent for these pieces, and the signature of the head.
fn sent(trailer: &str, step: usize) -> (Vec<u8>, String) {
    let word = if trailer.is_empty() { CHUNKS.to_owned() } else { format!("{CHUNKS}-TRAILER") };
    let (signed, seed) = signed("AWS4-ECDSA-P256-SHA256", &word).unwrap();
    let mut chunks = signed.chunks.unwrap();
    let body = body(144, trailer);
    let mut out = Vec::new();
    for piece in body.chunks(step) {
        assert!(chunks.end().is_err(), "the end comes last");
        out.extend(chunks.push(piece).unwrap());
    }
    chunks.end().unwrap();
    assert_eq!(out.len(), body.len(), "the length that the agent announced");
    (out, seed)
}

#[test]
fn chunk_signatures_of_another_version_or_length_are_refused() {
    for (algorithm, word) in [
        ("AWS4-HMAC-SHA256", CHUNKS),
        ("AWS4-ECDSA-P256-SHA256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
    ] {
        let error = signed(algorithm, word).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("another version"), "{error}");
    }
    for length in [64, 142, 146] {
        let (signed, _) = signed("AWS4-ECDSA-P256-SHA256", CHUNKS).unwrap();
        assert!(signed.chunks.unwrap().push(&body(length, "")).is_err(), "{length}");
    }
}

#[test]
fn chunks_for_a_set_of_regions_are_signed_by_the_published_key_however_the_body_arrives() {
    let empty = sha256_hex(b"");
    for step in [4096, 100_000] {
        let (out, mut previous) = sent("", step);
        let made = signatures(&out);
        for (bytes, signature) in [65_536, 1024, 0].into_iter().zip(&made) {
            let hashes = format!("{empty}\n{}", sha256_hex(&vec![b'a'; bytes]));
            verify("PAYLOAD", &previous, &hashes, signature);
            previous.clone_from(signature);
        }
        assert_eq!(made.len(), 3);
    }
}

#[test]
fn a_trailer_for_a_set_of_regions_is_signed_by_the_published_key() {
    let filler = "0".repeat(144);
    let trailer = format!("first:1st\r\nsecond: 2nd\r\nx-amz-trailer-signature:{filler}\r\n\r\n");
    let (out, _) = sent(&trailer, 100_000);
    let made = signatures(&out);
    assert_eq!(made.len(), 4);
    verify("TRAILER", &made[2], &sha256_hex(b"first:1st\nsecond:2nd\n"), &made[3]);
    let also_fed = trailer.replace("1st\r\n", "1st\n\r\n");
    let (out, _) = sent(&also_fed, 100_000);
    verify(
        "TRAILER",
        &signatures(&out)[2],
        &sha256_hex(b"first:1st\nsecond:2nd\n"),
        &signatures(&out)[3],
    );
    let short = trailer.replace(&filler, &"0".repeat(64));
    let word = format!("{CHUNKS}-TRAILER");
    let (signed, _) = signed("AWS4-ECDSA-P256-SHA256", &word).unwrap();
    assert!(signed.chunks.unwrap().push(&body(144, &short)).is_err());
}
