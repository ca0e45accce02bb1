//! Masks secrets in header and trailer fields.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::Needles;

/// Digests of a body (RFC 9530 and its predecessors), which are wrong after masking.
static DIGESTS: [HeaderName; 5] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
    header::ETAG,
];

/// Masks every needle in the values and returns how many there were.
pub fn mask(needles: &Needles, fields: &mut HeaderMap) -> u64 {
    let mut count = 0;
    for value in fields.values_mut() {
        let Some((masked, found)) = needles.masked(value.as_bytes()) else { continue };
        // The rest of a partially masked value is still a valid value.
        *value =
            HeaderValue::from_bytes(&masked).unwrap_or_else(|_| HeaderValue::from_static("masked"));
        count += found;
    }
    count
}

/// Removes digests of a body that was cut to a part. Those of the whole representation stay.
pub fn without_part_digests(fields: &mut HeaderMap) {
    for name in ["content-digest", "content-md5", "x-ms-content-crc64"] {
        fields.remove(name);
    }
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
}
