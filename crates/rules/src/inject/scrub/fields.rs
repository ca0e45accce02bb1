//! Masks secrets in header and trailer fields.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::Needles;
use super::inspector::is_no_coding;

/// Digests of a body (RFC 9530 and its predecessors), which are wrong after masking.
static DIGESTS: [HeaderName; 5] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
    header::ETAG,
];

/// Fields that say how an answer is framed and searched. No secret is taken for a part of their names.
static FRAMING: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
];

/// Masks every needle in the values, and removes fields whose names contain one. Returns how many there were.
pub fn mask(needles: &Needles, fields: &mut HeaderMap) -> u64 {
    let mut count = without_names(needles, fields);
    for value in fields.values_mut() {
        let Some((masked, found)) = needles.masked(value.as_bytes()) else { continue };
        // The rest of a partially masked value is still a valid value.
        *value =
            HeaderValue::from_bytes(&masked).unwrap_or_else(|_| HeaderValue::from_static("masked"));
        count += found;
    }
    count
}

/// Removes the fields whose names contain a needle, and returns how many there were.
fn without_names(needles: &Needles, fields: &mut HeaderMap) -> u64 {
    let is_gone =
        |name: &&HeaderName| needles.are_in_name(name.as_str()) && !FRAMING.contains(*name);
    let gone: Vec<HeaderName> = fields.keys().filter(is_gone).cloned().collect();
    for name in &gone {
        fields.remove(name);
    }
    gone.len() as u64
}

/// Removes digests of a body that was cut to a part. Those of the whole representation stay.
pub fn without_part_digests(fields: &mut HeaderMap) {
    for name in ["content-digest", "content-md5", "x-ms-content-crc64"] {
        fields.remove(name);
    }
}

/// Removes the lengths of a coded answer. A coding is shorter if the secret repeats other text of the answer, so an agent that
/// writes such text could guess the secret piece by piece (<https://www.breachattack.com>).
pub fn without_coded_lengths(fields: &mut HeaderMap) {
    if is_coded(fields) {
        for name in [header::CONTENT_LENGTH, header::CONTENT_RANGE] {
            fields.remove(name);
        }
    }
}

fn is_coded(fields: &HeaderMap) -> bool {
    let is_plain = |value: &HeaderValue| {
        let Ok(text) = value.to_str() else { return false };
        text.split(',').all(|token| is_no_coding(&token.trim().to_ascii_lowercase()))
    };
    !fields.get_all(header::CONTENT_ENCODING).iter().all(is_plain)
}

/// Removes digests, which do not match a masked body.
pub fn without_digests(fields: &mut HeaderMap) {
    for name in &DIGESTS {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::secret::Secret;

    #[test]
    fn every_value_is_masked_at_equal_length_and_the_rest_is_untouched() {
        let secret = Secret::from("s3cr3t-0123456789".to_owned());
        let needles = Needles::new([&secret], []);
        let mut fields = HeaderMap::new();
        fields.append("x-echo", HeaderValue::from_static("Bearer s3cr3t-0123456789, more"));
        fields.append("x-echo", HeaderValue::from_static("s3cr3t-012345678"));
        fields.append("set-cookie", HeaderValue::from_bytes(b"a=s3cr3t-0123456789\xe9").unwrap());
        assert_eq!(mask(&needles, &mut fields), 2);
        let values: Vec<_> = fields.get_all("x-echo").iter().collect();
        assert_eq!(values, ["Bearer *****************, more", "s3cr3t-012345678"]);
        assert_eq!(fields["set-cookie"].as_bytes(), b"a=*****************\xe9");
    }

    fn masked(secret: &str, names: &[&str]) -> (u64, Vec<String>) {
        let needles = Needles::new([&Secret::from(secret.to_owned())], []);
        let name = |name: &&str| HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = HeaderValue::from_static("1");
        let mut fields: HeaderMap = names.iter().map(|one| (name(one), value.clone())).collect();
        let count = mask(&needles, &mut fields);
        let mut left: Vec<String> = fields.keys().map(ToString::to_string).collect();
        left.sort_unstable();
        (count, left)
    }

    #[test]
    fn a_field_with_a_secret_in_its_name_is_removed_whatever_its_letter_case() {
        let names = ["X-Fine", "Key-1234_AbCd", "x-key-1234_abcd-y", "key-1234_abc"];
        assert_eq!(
            masked("Key-1234_AbCd", &names),
            (2, vec!["key-1234_abc".to_owned(), "x-fine".to_owned()])
        );
        // In hexadecimal.
        let names = ["4b65792d313233345f41624364", "x-fine"];
        assert_eq!(masked("Key-1234_AbCd", &names), (1, vec!["x-fine".to_owned()]));
    }

    #[test]
    fn a_secret_that_is_a_part_of_a_usual_name_does_not_change_how_the_answer_is_read() {
        let names = ["transfer-encoding", "content-encoding", "x-encoding"];
        let left = vec!["content-encoding".to_owned(), "transfer-encoding".to_owned()];
        assert_eq!(masked("encoding", &names), (1, left));
    }

    #[test]
    fn only_a_coded_answer_loses_its_lengths() {
        for (codings, stay) in [
            (&[][..], true),
            (&["identity"], true),
            (&["", "utf-8, Identity"], true),
            (&["gzip"], false),
            (&["identity", "x-unknown"], false),
            (&["identity, br"], false),
            (&["\u{e9}"], false),
        ] {
            let mut fields = HeaderMap::new();
            for coding in codings {
                let coding = HeaderValue::from_bytes(coding.as_bytes()).unwrap();
                fields.append("content-encoding", coding);
            }
            fields.append("content-length", HeaderValue::from_static("74"));
            fields.append("content-range", HeaderValue::from_static("bytes 0-9/74"));
            without_coded_lengths(&mut fields);
            let has = ["content-length", "content-range"].map(|name| fields.contains_key(name));
            assert_eq!(has, [stay; 2], "{codings:?}");
        }
    }

    #[test]
    fn no_name_is_compared_with_a_secret_that_is_too_short() {
        assert_eq!(masked("etag", &["etag"]), (0, vec!["etag".to_owned()]));
    }
}
