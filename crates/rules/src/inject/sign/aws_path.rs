//! [`SignedPath`]: the path that a signature covers, which S3 derives from the object key in place of the path on the wire.

use std::borrow::Cow;

use percent_encoding::{percent_decode_str, percent_encode};

use super::aws_names::{PATH, is_s3};
use crate::aws_host::is_of_aws;

/// How the path on the wire becomes the one that the signature covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SignedPath {
    /// As it is on the wire; the signer encodes it once more.
    Sent,
    /// Decoded, and encoded as S3 encodes keys of objects.
    Recoded,
    /// The same, with `+` as a space. The S3 of AWS reads it so; compatible services do not.
    /// <https://github.com/aws/aws-sdk-net/pull/4473>
    RecodedWithSpaces,
}

impl SignedPath {
    /// That of requests to a service at a host.
    pub(super) fn of(service: &str, host: &str) -> Self {
        match (is_s3(service), is_of_aws(host)) {
            (false, _) => Self::Sent,
            (true, false) => Self::Recoded,
            (true, true) => Self::RecodedWithSpaces,
        }
    }

    /// The path and query that are signed for those on the wire.
    pub(super) fn target(self, sent: &str) -> Cow<'_, str> {
        let (path, query) = sent.split_at(sent.find('?').unwrap_or(sent.len()));
        let path = match self {
            Self::Sent => return Cow::Borrowed(sent),
            Self::Recoded => Cow::Borrowed(path),
            Self::RecodedWithSpaces => Cow::Owned(path.replace('+', "%20")),
        };
        let key: Vec<u8> = percent_decode_str(&path).collect();
        format!("{}{query}", percent_encode(&key, PATH)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_signs_the_path_that_it_encodes_itself() {
        let aws = SignedPath::of("s3", "bkt.s3.amazonaws.com");
        let compatible = SignedPath::of("s3", "minio.corp.example");
        let cases = [
            ("/", "/"),
            ("/a%20b/%C3%A4?x=%7e&y=a+b", "/a%20b/%C3%A4?x=%7e&y=a+b"),
            ("/year=2024/f(1)@x:y,~z.txt", "/year%3D2024/f%281%29%40x%3Ay%2C~z.txt"),
            ("/%e4%2f%7Ea%2Bb", "/%E4/~a%2Bb"),
            ("//a/../b%252F/", "//a/../b%252F/"),
        ];
        for (sent, signed) in cases {
            assert_eq!(aws.target(sent), signed, "{sent}");
            assert_eq!(compatible.target(sent), signed, "{sent}");
            assert_eq!(SignedPath::of("s3tables", "s3.amazonaws.com").target(sent), sent);
        }
        assert_eq!(aws.target("/a+b?c+d"), "/a%20b?c+d");
        assert_eq!(compatible.target("/a+b?c+d"), "/a%2Bb?c+d");
    }
}
